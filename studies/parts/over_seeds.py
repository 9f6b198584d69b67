"""Intervals that cover another training run as well as other inputs: examples and seeds are both drawn anew."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from studies.metrics import Metric, Record, Row
from studies.parts.bootstrap import interval, resampled_sums

RESAMPLES = 2000


def estimate_over_seeds(rows: Sequence[Row], baseline: Sequence[Row], metric: Metric) -> Record:
    """Value, low, high, n and seeds of the rows, and as difference, difference_low, difference_high what the baseline
    leaves of it, paired by examples and by the places of the seeds. Every seed has the same examples.
    """
    value, draws = _resampled(rows, metric)
    before, before_draws = _resampled(baseline, metric)
    low, high = interval(draws)
    ends = dict(zip(("difference_low", "difference_high"), interval(draws - before_draws), strict=True))
    counts = {"n": len({row["id"] for row in rows}), "seeds": len({row["seed"] for row in rows})}
    return {"value": value, "low": low, "high": high, **counts, "difference": value - before, **ends}


def _resampled(rows: Sequence[Row], metric: Metric) -> tuple[float, Float[np.ndarray, " resamples"]]:
    """The metric of the rows, seeds averaged example by example, and of each resample."""
    found = {(row["seed"], row["id"]): metric.columns(row) for row in rows}
    ids, seeds = sorted({row["id"] for row in rows}), sorted({row["seed"] for row in rows})
    columns = np.array([[found[seed, id_] for id_ in ids] for seed in seeds], dtype=np.float64)
    sums = np.stack([resampled_sums(own, np.array(ids), RESAMPLES, 0) for own in columns])
    drawn = np.random.default_rng(1).integers(0, len(seeds), (RESAMPLES, len(seeds)))
    mixed = sums[drawn, np.arange(RESAMPLES)[:, None]].mean(axis=1)
    return float(metric.value(columns.mean(axis=0).sum(axis=0))), metric.value(mixed)

"""Intervals that cover another training run as well as other inputs: units of examples and seeds are drawn anew."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from studies.metrics import Metric, Record, Row
from studies.parts.bootstrap import interval, resampled_sums
from studies.parts.examples import unit_of

RESAMPLES = 2000


def estimate_over_seeds(rows: Sequence[Row], baseline: Sequence[Row], metric: Metric) -> Record:
    """Value, low, high, n, units and seeds of the rows, and as difference, difference_low, difference_high what the
    baseline leaves of it, paired by examples and by the places of the seeds. Every seed has the same examples.
    """
    value, draws, counts = _resampled(rows, metric)
    before, before_draws, _ = _resampled(baseline, metric)
    low, high = interval(draws)
    ends = dict(zip(("difference_low", "difference_high"), interval(draws - before_draws), strict=True))
    return {"value": value, "low": low, "high": high, **counts, "difference": value - before, **ends}


def _resampled(rows: Sequence[Row], metric: Metric) -> tuple[float, Float[np.ndarray, " resamples"], dict[str, int]]:
    """The metric of the rows, seeds averaged example by example, that of each resample, and what they stand on."""
    found = {(row["seed"], row["id"]): metric.columns(row) for row in rows}
    unit = {row["id"]: unit_of(row) for row in rows}
    ids, seeds = sorted(unit), sorted({row["seed"] for row in rows})
    columns = np.array([[found[seed, id_] for id_ in ids] for seed in seeds], dtype=np.float64)
    units = np.array([unit[id_] for id_ in ids])
    sums = np.stack([resampled_sums(own, units, RESAMPLES, 0) for own in columns])
    drawn = np.random.default_rng(1).integers(0, len(seeds), (RESAMPLES, len(seeds)))
    mixed = sums[drawn, np.arange(RESAMPLES)[:, None]].mean(axis=1)
    mean = columns.mean(axis=0)
    own = metric.counts(mean)
    counts = {"n": int(own.sum()), "units": len(np.unique(units[own])), "seeds": len(seeds)}
    return float(metric.value(mean.sum(axis=0))), metric.value(mixed), counts

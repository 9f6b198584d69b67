"""One method's rows as numbers: a line an example, what the metrics and their bootstrap are computed from."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float

from studies.measure.metric import Metric, Row

UNIT = "unit"  # the field of a row that names what its example shares with others: the image
ALL = "all"


@dataclass(frozen=True)
class Examples:
    """Sorted by id, columns of all metrics side by side, once for each of the method's seeds.

    `units` are labels: examples of one unit are no independent ones. `counts` tells which examples each metric stands
    on.
    """

    ids: np.ndarray
    subsets: np.ndarray
    units: np.ndarray
    by_seed: Float[np.ndarray, "seeds examples k"]
    counts: Bool[np.ndarray, "examples metrics"]
    widths: tuple[int, ...]

    @property
    def columns(self) -> Float[np.ndarray, "examples k"]:
        """Averaged over the seeds."""
        return self.by_seed.mean(axis=0)

    @property
    def seeds(self) -> int:
        return len(self.by_seed)

    def where(self, keep: Bool[np.ndarray, " examples"]) -> "Examples":
        arrays = {name: getattr(self, name)[keep] for name in ("ids", "subsets", "units", "counts")}
        return replace(self, by_seed=self.by_seed[:, keep], **arrays)

    def parts(self) -> dict[str, "Examples"]:
        """All examples, and those of each subset."""
        names = [str(name) for name in np.unique(self.subsets) if name != ALL]
        return {ALL: self} | {name: self.where(self.subsets == name) for name in names}

    def sizes(self) -> list[dict[str, int]]:
        """For each metric n, the examples that it stands on, and units, how many units these are of."""
        return [{"n": int(own.sum()), "units": len(np.unique(self.units[own]))} for own in self.counts.T]


def examples_of(rows: Sequence[Row], metrics: Sequence[Metric], unit: str = UNIT) -> Examples:
    """The rows of one method. Raises ValueError for no rows, one that counts twice, and seeds that differ in examples.

    `unit` is the field that names each row's unit; an example without one is a unit by itself.
    """
    if not rows:
        raise ValueError("There are no rows to measure. Run the study first, or check the filter that chose them.")
    if unit != UNIT and not any(unit in row for row in rows):
        raise ValueError(f"No row has a field {unit!r} to draw examples by; there are {', '.join(rows[0])}.")
    found = {(row["id"], row["seed"]): row for row in rows}
    if len(found) < len(rows):
        raise ValueError(
            f"{len(rows)} rows hold {len(found)} pairs of id and seed, so some reply counts twice. "
            "Measure one task, split, method, variant, strength and pair of layers at a time."
        )
    ids, seeds = sorted({row["id"] for row in rows}), sorted({row["seed"] for row in rows}, key=repr)
    missing = [f"{id} (seed {seed})" for id in ids for seed in seeds if (id, seed) not in found]
    if missing:
        raise ValueError(
            f"{len(ids)} examples and {len(seeds)} seeds, but {len(missing)} replies are missing: {some(missing)}. "
            "Every seed needs the same examples: resume the run, or leave the unfinished seed out."
        )
    first = [found[id, seeds[0]] for id in ids]
    by_seed = np.array([[_numbers(found[id, seed], metrics) for id in ids] for seed in seeds])
    widths = tuple(len(metric.columns(first[0])) for metric in metrics)
    parts = np.split(by_seed.mean(axis=0), np.cumsum(widths)[:-1], axis=1)
    return Examples(
        ids=np.array(ids),
        subsets=np.array([str(row["subset"]) for row in first]),
        units=np.array([unit_of(row, unit) for row in first]),
        by_seed=by_seed,
        counts=np.stack([metric.counts(part) for metric, part in zip(metrics, parts, strict=True)], axis=1),
        widths=widths,
    )


def unit_of(row: Row, unit: str = UNIT) -> str:
    """What the row's example is drawn with."""
    return str(row.get(unit) or row["id"])


def _numbers(row: Row, metrics: Sequence[Metric]) -> list[float]:
    return [number for metric in metrics for number in metric.columns(row)]


def some(names: Sequence[str], shown: int = 3) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")

"""What the rows of a study say: metrics, 95% bootstrap intervals and paired differences. Pure functions of rows.

Every metric is a function of sums over examples, mostly a ratio of two counts, which is what makes the bootstrap cheap.

Conventions, the same for every metric:
 - An unparsable reply (`parsed == ""`) is a wrong one, and neither a "yes" nor a "no". It stays in every denominator.
 - Where a metric has no denominator (precision without one "yes"), it is nan here and null in JSON. A resample without
   one is left out of the interval.
 - Subset "all" pools the rows of all subsets. For accuracy and other means over rows this is the mean over subsets if
   they have the same size; for F1 and precision it is not.
 - Several seeds of a method are averaged example by example: n counts examples, not replies, and of these the ones
   with a denominator (precision: those that are answered "yes"). An interval holds what another draw of the seeds may
   change, as well as other examples.
 - Examples about one image are drawn together, so that many questions about few images do not look like many images.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from more_itertools import map_reduce

from studies.measure.bootstrap import interval, resampled_over_seeds
from studies.measure.examples import ALL, UNIT, Examples, examples_of, some
from studies.measure.metric import Metric, Record, Row

# What tells a table's lines apart. A variant is a change to a method ("hidden=16"); the method as it is has none.
GROUP = ("method", "variant", "strength", "reads", "writes")


def _values(sums: np.ndarray, metrics: Sequence[Metric], widths: tuple[int, ...]) -> np.ndarray:
    """Sums [..., columns of all metrics] to values [..., metrics]."""
    parts = np.split(sums, np.cumsum(widths)[:-1], axis=-1)
    return np.stack([metric.value(part) for metric, part in zip(metrics, parts, strict=True)], axis=-1)


def _measured(
    part: Examples, metrics: Sequence[Metric], resamples: int, seed: int
) -> tuple[Float[np.ndarray, " metrics"], Float[np.ndarray, "resamples metrics"]]:
    """The metrics of the examples, and of each resample of them."""
    sums = resampled_over_seeds(part.by_seed, part.units, resamples, seed)
    return _values(part.columns.sum(axis=0), metrics, part.widths), _values(sums, metrics, part.widths)


def _records(
    subset: str, metrics: Sequence[Metric], values: np.ndarray, draws: np.ndarray, part: Examples
) -> list[Record]:
    intervals = [interval(column) for column in draws.T]
    return [
        {"subset": subset, "metric": metric.name, "value": float(value), "low": low, "high": high}
        | size
        | {"seeds": part.seeds}
        for metric, value, (low, high), size in zip(metrics, values, intervals, part.sizes(), strict=True)
    ]


def estimate(
    rows: Sequence[Row], metrics: Sequence[Metric], *, resamples: int = 2000, seed: int = 0, unit: str = UNIT
) -> list[Record]:
    """Records {subset, metric, value, low, high, n, units, seeds} of one method, for "all" and for every subset.

    low and high are the 95% percentile bootstrap interval over examples, and over seeds where there are several.
    `unit` names the field whose values are drawn together: the examples about one image, which are no independent ones;
    "id" takes all as independent. n counts the examples that the metric stands on, units how many units
    these are of, seeds the seeds that were averaged. A metric that is 0 (or 1) on every example has an interval of no
    width: mind n. Raises ValueError for no rows, a reply that counts twice, and seeds that cover different examples.
    """
    records: list[Record] = []
    for subset, part in examples_of(rows, metrics, unit).parts().items():
        records += _records(subset, metrics, *_measured(part, metrics, resamples, seed), part)
    return records


def difference(
    rows: Sequence[Row],
    baseline: Sequence[Row],
    metrics: Sequence[Metric],
    *,
    resamples: int = 2000,
    seed: int = 0,
    unit: str = UNIT,
) -> list[Record]:
    """`rows` minus `baseline`, paired: records as from `estimate`, where value, low and high are of the difference.

    Both sides are resampled with the same weights, and seeds by their places where both have as many, so what varies
    with the examples alone cancels. A method minus itself is exactly 0. Raises ValueError as `estimate` does, and if
    the two sides do not cover the same examples.
    """
    ours, theirs = examples_of(rows, metrics, unit), examples_of(baseline, metrics, unit)
    if alone := sorted(set(ours.ids.tolist()) ^ set(theirs.ids.tolist())):
        raise ValueError(
            f"A paired difference needs the same examples on both sides, but {len(alone)} are on one side alone "
            f"({some(alone)}): {len(ours.ids)} examples against the baseline's {len(theirs.ids)}. "
            "Resume the run that lacks them, or compare on the ids that both have."
        )
    theirs_by_subset = theirs.parts()
    records: list[Record] = []
    for subset, part in ours.parts().items():
        values, draws = _measured(part, metrics, resamples, seed)
        base_values, base_draws = _measured(theirs_by_subset[subset], metrics, resamples, seed)
        records += _records(subset, metrics, values - base_values, draws - base_draws, part)
    return records


def group(row: Row) -> tuple[Any, ...]:
    """The values of `GROUP`: the rows that one line of a table is about. Lists of layers become tuples.

    A row without a variant is of the method as it is.
    """
    values = [row.get(name) if name == "variant" else row[name] for name in GROUP]
    return tuple(tuple(value) if isinstance(value, list) else value for value in values)


def by_setting(rows: Iterable[Row]) -> list[tuple[dict[str, Any], list[Row]]]:
    """The rows of each line of a table, with the line's values of `GROUP` by name."""
    return [(dict(zip(GROUP, setting, strict=True)), own) for setting, own in map_reduce(rows, group).items()]


def called(row: Row) -> str:
    """The method, and its variant in brackets: "L2S (hidden=16)"."""
    return f"{row['method']} ({row['variant']})" if row.get("variant") else row["method"]


def _order(value: Any) -> tuple[bool, bool, Any]:
    """Nothing before numbers before names and lists, so that settings of every kind sort."""
    return value is not None, isinstance(value, str | tuple), value


def table(
    rows: Sequence[Row],
    metrics: Sequence[Metric],
    baseline: str = "NoSteering",
    *,
    skipped: int = 0,
    resamples: int = 2000,
    seed: int = 0,
    unit: str = UNIT,
) -> list[Record]:
    """The records of `table.json`: `estimate` of every line (`GROUP`), `difference` to `baseline`.

    Each record has task, method, variant, strength, reads, writes, the fields of `estimate`, baseline, difference,
    difference_low and difference_high (nan where no baseline ran) and skipped, the number of items that could not be
    run. The baseline, named with its variant if it is one, comes first. Raises ValueError if rows mix tasks or splits,
    or if the baseline ran in several settings.
    """
    for field in ("task", "split"):
        if len(names := sorted({str(row[field]) for row in rows})) > 1:
            raise ValueError(f"These rows mix {field}s {', '.join(names)}: make one table for each, of its rows.")
    groups = map_reduce(rows, group)
    references = [name for name, own in groups.items() if called(own[0]) == baseline]
    if len(references) > 1:
        raise ValueError(
            f"{baseline} ran in {len(references)} settings, {references}: keep the baseline's rows of one."
        )
    how: dict[str, Any] = {"resamples": resamples, "seed": seed, "unit": unit}
    records: list[Record] = []
    for name in sorted(groups, key=lambda name: (name not in references, [_order(value) for value in name])):
        named = dict(zip(GROUP, name, strict=True)) | {"baseline": baseline}
        measured = estimate(groups[name], metrics, **how)
        against = difference(groups[name], groups[references[0]], metrics, **how) if references else []
        for index, record in enumerate(measured):
            delta = against[index] if against else dict.fromkeys(("value", "low", "high"), float("nan"))
            named |= {"difference": delta["value"], "difference_low": delta["low"], "difference_high": delta["high"]}
            records.append({"task": rows[0]["task"], "subset": record["subset"], **named, **record, "skipped": skipped})
    return records


def refused_records(
    refused: Mapping[str, str],
    task: str,
    metrics: Sequence[Metric],
    baseline: str = "NoSteering",
    *,
    skipped: int = 0,
) -> list[Record]:
    """Records of methods that do not apply, in the form of `table`: no value of any metric, and why, as `refusal`."""
    nothing = ("value", "low", "high", "difference", "difference_low", "difference_high")
    named = {"task": task, "subset": ALL, "baseline": baseline, "n": 0, "units": 0, "seeds": 0, "skipped": skipped}
    return [
        named | dict.fromkeys(GROUP) | dict.fromkeys(nothing) | {"method": name, "metric": metric.name, "refusal": why}
        for name, why in refused.items()
        for metric in metrics
    ]

"""What a table says, in sentences that are computed from it: also when it says that steering did not help."""

from collections.abc import Sequence

import numpy as np
from more_itertools import map_reduce

from studies.measure import ALL, Metric, Record, Row, called, difference, group
from studies.report.naming import CONTROLS, ORACLES, label, listed, number, signed, words

BASELINE = "NoSteering"
# Metrics whose name is no noun.
SHARES = {"appropriate": "share of appropriate replies", "valid": "share of well-formed replies"}


def against_best(
    records: Sequence[Record], rows: Sequence[Row], metric: Metric, *, lower_is_better: bool = False
) -> list[Record]:
    """The records of a table; those of the metric over all subsets with the method's difference to the best one.

    That is to_best, to_best_low and to_best_high, paired, for every method that steers and is not the best.
    """
    cells = _cells(records, metric.name)
    steered = _steered(cells, BASELINE)
    if not steered:
        return list(records)
    best = _best(steered, -1.0 if lower_is_better else 1.0)
    by_setting = map_reduce(rows, group)
    compared = []
    for record in records:
        if record in steered and record != best:
            gap = difference(by_setting[group(record)], by_setting[group(best)], [metric])[0]
            record = record | {"to_best": gap["value"], "to_best_low": gap["low"], "to_best_high": gap["high"]}
        compared.append(record)
    return compared


def leaders(records: Sequence[Record], metric: str, *, lower_is_better: bool = False) -> list[Record]:
    """The best method that steers over all subsets, then those that cannot be told from it by the paired interval."""
    steered = _steered(_cells(records, metric), BASELINE)
    if not steered:
        return []
    best = _best(steered, -1.0 if lower_is_better else 1.0)
    return [best, *(record for record in listed(steered) if record != best and _tied(record))]


def finding(
    records: Sequence[Record], metric: str, *, lower_is_better: bool = False, baseline: str = BASELINE
) -> list[str]:
    """The main sentence, then what cannot be told from the best, then the controls and the oracle where there are any.

    The best method is that of the best value over all subsets. The oracle and the controls cannot be it. Where the
    paired interval to the baseline holds 0, the sentence says that the two cannot be told apart.
    """
    cells, sign = _cells(records, metric), -1.0 if lower_is_better else 1.0
    steered = _steered(cells, baseline)
    if not steered:
        return [f"The table has no value of {words(metric)} for a steering method."]
    best = _best(steered, sign)
    sentences = [_main(best, steered, SHARES.get(metric, words(metric)), baseline, sign), *_told_apart(best, steered)]
    sentences += _controls(best, [record for record in cells if record["method"] in CONTROLS], sign)
    for record in listed([record for record in cells if record["method"] in ORACLES])[:1]:
        sentences.append(
            f"The oracle {label(record, cells)}, which is given the wanted answer, reaches {_value(record)}."
        )
    return sentences


def _cells(records: Sequence[Record], metric: str) -> list[Record]:
    """The metric's records over all subsets that have a value."""
    whole = (record for record in records if (record["subset"], record["metric"]) == (ALL, metric))
    return [record for record in whole if np.isfinite(number(record["value"]))]


def _steered(cells: Sequence[Record], baseline: str) -> list[Record]:
    return [record for record in cells if record["method"] not in (baseline, *ORACLES, *CONTROLS)]


def _best(steered: Sequence[Record], sign: float) -> Record:
    return max(listed(steered), key=lambda record: sign * number(record["value"]))


def _tied(record: Record) -> bool:
    """Whether the paired interval to the best holds 0; not where the table does not say."""
    return number(record.get("to_best_low")) <= 0 <= number(record.get("to_best_high"))


def _told_apart(best: Record, steered: Sequence[Record]) -> list[str]:
    """Which methods cannot be told from the best; nothing where the table has no differences to it."""
    others = [record for record in listed(steered) if record != best and record.get("to_best") is not None]
    if not others:
        return []
    if tied := [record for record in others if _tied(record)]:
        holding = "its paired 95% interval holds" if len(tied) == 1 else "their paired 95% intervals hold"
        named = ", ".join(f"{label(record, steered)} ({signed(record['to_best'])})" for record in tied)
        return [f"{named} cannot be told apart from the best: {holding} 0."]
    return ["The paired 95% intervals of all other methods that steer leave it ahead."]


def _main(best: Record, steered: Sequence[Record], metric: str, baseline: str, sign: float) -> str:
    name, settings = label(best, steered), sum(called(record) == called(best) for record in steered)
    extreme = "highest" if sign > 0 else "lowest"
    kept = f" (the best of its {settings} settings in this table, chosen here)" if settings > 1 else ""
    head = f"{name}{kept} has the {extreme} {metric} of the methods that steer, {number(best['value']):.3f}"
    task, n = f"On {best['task']}, ", f"n = {best['n']:,}"
    gap, low, high = (number(best.get(field)) for field in ("difference", "difference_low", "difference_high"))
    if not np.isfinite(gap):
        return f"{task}{head} ({n}); {baseline} was not run."
    paired = f"paired 95% interval {signed(low)} to {signed(high)}, {n}"
    if low <= 0 <= high:
        return f"{task}{head}, which cannot be told from {baseline} ({signed(gap)}; {paired})."
    if sign * gap < 0:
        return f"{task}no method that steers beats {baseline}: {head}, {signed(gap)} against it ({paired})."
    return f"{task}{head}, {abs(gap):.3f} {'above' if gap > 0 else 'below'} {baseline} ({paired})."


def _controls(best: Record, controls: Sequence[Record], sign: float) -> list[str]:
    if not controls:
        return []
    ahead = [record for record in listed(controls) if sign * (number(best["value"]) - number(record["value"])) <= 0]
    if ahead:
        return [f"It does not beat the control {_named(ahead)}."]
    close = [record for record in listed(controls) if _overlap(best, record)]
    head = f"It is ahead of the control{'s' if len(controls) > 1 else ''} {_named(listed(controls))}"
    return [f"{head}, though its interval overlaps with that of {_names(close)}." if close else f"{head}."]


def _overlap(one: Record, other: Record) -> bool:
    return number(one["low"]) <= number(other["high"]) and number(other["low"]) <= number(one["high"])


def _value(record: Record) -> str:
    low, high = number(record["low"]), number(record["high"])
    return f"{number(record['value']):.3f} (95% interval {low:.3f} to {high:.3f}, n = {record['n']:,})"


def _named(records: Sequence[Record]) -> str:
    return " and ".join(f"{label(record, records)} ({number(record['value']):.3f})" for record in records)


def _names(records: Sequence[Record]) -> str:
    return " and ".join(label(record, records) for record in records)

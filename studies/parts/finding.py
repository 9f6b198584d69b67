"""What a table says, in sentences that are computed from it: also when it says that steering did not help."""

from collections.abc import Sequence

import numpy as np

from studies.metrics import ALL, Record, called
from studies.plots.figures import CONTROLS, ORACLES, label, listed, number, signed, words

# Metrics whose name is no noun.
SHARES = {"appropriate": "share of appropriate replies", "valid": "share of well-formed replies"}


def finding(
    records: Sequence[Record], metric: str, *, lower_is_better: bool = False, baseline: str = "NoSteering"
) -> list[str]:
    """The main sentence, then one about the controls and one about the oracle where the table has them.

    The best method is that of the best value over all subsets. The oracle and the controls cannot be it. Where the
    paired interval to the baseline holds 0, the sentence says that the two cannot be told apart.
    """
    cells = [
        record
        for record in records
        if record["subset"] == ALL and record["metric"] == metric and np.isfinite(number(record["value"]))
    ]
    sign = -1.0 if lower_is_better else 1.0
    steered = [record for record in cells if record["method"] not in (baseline, *ORACLES, *CONTROLS)]
    if not steered:
        return [f"The table has no value of {words(metric)} for a steering method."]
    best = max(listed(steered), key=lambda record: sign * number(record["value"]))
    sentences = [_main(best, steered, SHARES.get(metric, words(metric)), baseline, sign)]
    sentences += _controls(best, [record for record in cells if record["method"] in CONTROLS], sign)
    for record in listed([record for record in cells if record["method"] in ORACLES])[:1]:
        sentences.append(
            f"The oracle {label(record, cells)}, which is given the wanted answer, reaches {_value(record)}."
        )
    return sentences


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

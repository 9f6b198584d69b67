"""What a search lost over many halves, in lines, as a table and in words."""

from collections.abc import Sequence

import numpy as np
from more_itertools import map_reduce

from studies.calibrate.regret import GOAL
from studies.measure import Record
from studies.report.tables import ExtraTable


def summary(records: Sequence[Record]) -> list[Record]:
    """One line a method, share and way of searching: means over the halves, and 95% of them for the relative effect."""
    lines = []
    groups = map_reduce(records, lambda record: (record["method"], record["share"], record["pruned"]))
    for (method, share, pruned), own in groups.items():
        effect, full, best, plain_effect = (
            np.array([record[name] for record in own]) for name in ("effect", "full", "best", "unsteered")
        )
        relative, gains = effect / full, np.array([effect.mean(), full.mean()]) - plain_effect.mean()
        low, high = np.percentile(relative, [2.5, 97.5])
        lines.append(
            {"method": method, "share": share, "pruned": pruned, "halves": len(own)}
            | {"cost": float(np.mean([record["cost"] for record in own])), "value": float(relative.mean())}
            | {"low": float(low), "high": float(high), "within": float((relative >= GOAL["effect"]).mean())}
            | {"effect": float(effect.mean()), "full": float(full.mean()), "best": float(best.mean())}
            | {"of_best": float((effect / best).mean()), "unsteered": float(plain_effect.mean())}
            | {"gain": float(gains[0] / gains[1]) if gains[1] > 0 else float("nan")}
            | {name: float(np.mean([record[name] for record in own])) for name in ("kept", "full_kept")}
        )
    return lines


def said(line: Record) -> str:
    """The line as a sentence, the miss included where there is one."""
    verdict = "The goal is reached" if _reached(line) else "The goal is missed"
    missed = [
        f"{name} {abs(line[field] - GOAL[name]):.3f} {side}"
        for name, field, side, short in (
            ("effect", "value", "too low", line["value"] < GOAL["effect"]),
            ("cost", "cost", "too high", line["cost"] > GOAL["cost"]),
        )
        if short
    ]
    gain = f"; {line['gain']:.0%} of its gain" if np.isfinite(line["gain"]) else "; the grid gains nothing"
    return (
        f"{line['method']}: {line['value']:.1%} of the whole grid's effect ({line['effect']:.3f} against "
        f"{line['full']:.3f}; unsteered {line['unsteered']:.3f}{gain}), and "
        f"{line['of_best']:.1%} of the best that any candidate has there, at {line['cost']:.1%} "
        f"of its cost, mean of {line['halves']} halves, of which {line['within']:.0%} lie within 5%; budget kept on "
        f"{line['kept']:.0%} of the judged halves, by the whole grid's choice on {line['full_kept']:.0%}. "
        f"{verdict}{': ' + ', '.join(missed) if missed else ''}."
    )


def summary_table(lines: Sequence[Record]) -> ExtraTable:
    """Title, head and body: what each share of the grid's cost reaches, with and without the divergence budget."""
    head = ["method", "search by", "allowed cost", "cost", "effect of the grid's [95% of halves]", "effect"]
    head += ["the grid's", "unsteered", "budget kept", "goal"]
    body = [
        [line["method"], "divergence and replies" if line["pruned"] else "replies alone", f"{line['share']:.0%}"]
        + [f"{line['cost']:.1%}", f"{line['value']:.1%} [{line['low']:.1%} to {line['high']:.1%}]"]
        + [f"{line[name]:.3f}" for name in ("effect", "full", "unsteered")]
        + [f"{line['kept']:.0%}", "reached" if _reached(line) else "missed"]
        for line in lines
    ]
    return f"the search against the whole grid, mean of {lines[0]['halves']} halves", head, body


def _reached(line: Record) -> bool:
    return bool(line["value"] >= GOAL["effect"] and line["cost"] <= GOAL["cost"])

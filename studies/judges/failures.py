"""What stays without a verdict: printed, and written beside the verdicts, so that a paid run does not end in blanks."""

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import rich
from rich.markup import escape

from studies.judges.verdicts import Outcome

FILE = "judge_failures.json"
SHOWN = 3  # reasons that are printed of each judge


def note_failures(outcomes: Mapping[str, Outcome], verdicts: Path | None) -> None:
    """Say of each judge how many items it left without a verdict, by reason, most frequent first.

    `judge_failures.json` lies beside the file of verdicts, a list of judge, reason, count and the first item's id; it
    goes where nothing failed. Without such a file the counts are printed alone.
    """
    records = [record for name, outcome in outcomes.items() for record in _by_reason(name, outcome)]
    for name, outcome in outcomes.items():
        if own := [record for record in records if record["judge"] == name]:
            said = "; ".join(f"{record['count']} x {record['reason']}" for record in own[:SHOWN])
            more = f"; {len(own) - SHOWN} more reasons" if len(own) > SHOWN else ""
            of = f"{sum(record['count'] for record in own)} of {len(outcome.verdicts)}"
            rich.print(escape(f"{name} left {of} without a verdict: {said}{more}. The next run asks them again."))
    if verdicts is None:
        return
    file = verdicts.with_name(FILE)
    if records:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(records, indent=1), encoding="utf-8")
    else:
        file.unlink(missing_ok=True)


def _by_reason(name: str, outcome: Outcome) -> list[dict[str, Any]]:
    ids: dict[str, list[str]] = defaultdict(list)
    for id_, reason in zip(outcome.ids, outcome.reasons, strict=True):
        if reason:
            ids[reason].append(id_)
    groups = sorted(ids.items(), key=lambda group: -len(group[1]))
    return [{"judge": name, "reason": reason, "count": len(own), "first": own[0]} for reason, own in groups]

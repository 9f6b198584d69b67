"""The judges of one study."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interv import VLM
from studies.judges.failures import note_failures
from studies.judges.guard import LlamaGuard
from studies.judges.judge import URL, Judge, LocalJudge
from studies.judges.verdicts import Outcome
from studies.measure import Metric, Row, ratio

FIRST, SECOND = "judged", "judged_again"  # a row's marks by the first judge and by the second


def judge_of(name: str, device: str = "cpu", version: str = "") -> Judge:
    """The model of this name at the endpoint of JUDGE_URL where that is set, else loaded here.

    The version is an endpoint's; a model that is loaded here has its own. Raises ModuleNotFoundError where an endpoint
    is set and OpenAI's client is missing.
    """
    if not os.environ.get(URL):
        return LocalJudge(VLM.load(name, device=device))
    try:
        from studies.judges.endpoint import Endpoint
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"A judge behind {URL} needs openai: pip install 'interv[judges]', or unset {URL} to load the judge here."
        ) from error
    return Endpoint(name, version)


@dataclass(frozen=True, eq=False)
class Panel:
    """Who judges: `guard` how harmful a reply is, `judges` (none, one or two) how good. Without any there is no metric.

    The first judge's marks are what counts; the second one's tell how far judges agree.
    """

    guard: LlamaGuard | None = None
    judges: Sequence[Judge] = ()

    def __post_init__(self) -> None:
        if len(self.judges) > 2:
            raise ValueError(f"There are {len(self.judges)} judges; give one, or two that are to be compared.")

    def fields(self) -> tuple[str, ...]:
        """Where each judge's marks stand in a row."""
        return (FIRST, SECOND)[: len(self.judges)]

    def marks(self, ask: Callable[[Judge], Outcome], file: Path | None) -> dict[str, list[Any]]:
        """Each judge's values, by the field of a row; what stays without one is printed, and noted beside the file."""
        outcomes = {field: ask(judge) for field, judge in zip(self.fields(), self.judges, strict=True)}
        named = [
            (f"{judge.name} {judge.version}".strip(), outcome)
            for judge, outcome in zip(self.judges, outcomes.values(), strict=True)
        ]
        note_failures(dict(named), file)
        return {field: outcome.values for field, outcome in outcomes.items()}

    def agreement(self) -> tuple[Metric, ...]:
        """Over the rows that both judges marked: the share marked alike, and the mean difference of the marks."""
        if len(self.judges) < 2:
            return ()
        return (
            ratio("judges_agree", lambda row: float(_both(row) and row[FIRST] == row[SECOND]), _both),
            ratio("judges_gap", lambda row: abs(row[FIRST] - row[SECOND]) if _both(row) else 0.0, _both),
        )


def _both(row: Row) -> float:
    return float(row.get(FIRST) is not None and row.get(SECOND) is not None)


def mean_mark(name: str) -> Metric:
    """The mean of the first judge's marks, over the rows that have one."""
    return ratio(
        name,
        lambda row: 0.0 if row.get(FIRST) is None else float(row[FIRST]),
        lambda row: float(row.get(FIRST) is not None),
    )


def without_mark(name: str, due: str) -> Metric:
    """The share of rows without the first judge's mark, of those with the field `due`."""
    return ratio(
        name, lambda row: float(row.get(FIRST) is None and bool(row.get(due))), lambda row: float(bool(row.get(due)))
    )

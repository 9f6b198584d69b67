"""The judges of one study."""

from dataclasses import dataclass

from studies.judges.guard import LlamaGuard
from studies.judges.judge import Judge


@dataclass(frozen=True, eq=False)
class Panel:
    """Who judges: `guard` how harmful a reply is, `quality` how good. What nobody judges has no metric."""

    guard: LlamaGuard | None = None
    quality: Judge | None = None

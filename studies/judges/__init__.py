"""Models that judge replies: harm, quality, and which of two captions is better."""

from studies.judges.guard import Exchange, LlamaGuard, load_examples
from studies.judges.judge import Answer, Judge, LocalJudge
from studies.judges.panel import Panel, judge_of
from studies.judges.questions import Duel, Reply, compare_captions, rate, win_rate
from studies.judges.verdicts import JudgeFailed, Outcome, Verdict, Verdicts

__all__ = [
    "Answer",
    "Duel",
    "Exchange",
    "Judge",
    "JudgeFailed",
    "LlamaGuard",
    "LocalJudge",
    "Outcome",
    "Panel",
    "Reply",
    "Verdict",
    "Verdicts",
    "compare_captions",
    "judge_of",
    "load_examples",
    "rate",
    "win_rate",
]

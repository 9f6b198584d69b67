"""Models that judge replies: harm, quality, and which of two captions is better."""

from studies.judges.agreement import agreement
from studies.judges.asking import Duel, Reply, compare_captions, rate, win_rate
from studies.judges.guard import Exchange, LlamaGuard, load_examples
from studies.judges.judge import Endpoint, Judge, LocalJudge, Said, judge_of
from studies.judges.verdicts import JudgeFailed, Outcome, Verdict, Verdicts

__all__ = [
    "Duel",
    "Endpoint",
    "Exchange",
    "Judge",
    "JudgeFailed",
    "LlamaGuard",
    "LocalJudge",
    "Outcome",
    "Reply",
    "Said",
    "Verdict",
    "Verdicts",
    "agreement",
    "compare_captions",
    "judge_of",
    "load_examples",
    "rate",
    "win_rate",
]

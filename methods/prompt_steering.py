"""Ask for the behaviour in words."""

from dataclasses import dataclass, replace

from interv import Add, Prompt
from methods.contrasts.sharded import AnyContrasts
from methods.steerer import Fitted, Query, Strength


@dataclass(frozen=True, eq=False)
class PromptSteering(Fitted):
    """Appends an instruction to the question and adds nothing. Source: arXiv:2508.12815, Sec. 4 (Prompt)."""

    suffix: str = ""

    @classmethod
    def fit(
        cls,
        train: AnyContrasts,
        *,
        suffix: str = "Examine the image carefully and answer:",  # the paper's words for POPE
    ) -> "PromptSteering":
        return cls(train.reads, train.writes, train.fingerprint, suffix=suffix)

    def rewrite(self, prompt: Prompt) -> Prompt:
        return replace(prompt, question=f"{prompt.question} {self.suffix}")

    def ops(self, query: Query, strength: Strength = 1.0) -> tuple[Add, ...]:
        return ()

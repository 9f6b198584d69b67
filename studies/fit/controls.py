"""Two controls for yes/no tasks, so that a shift of the answer's bias is not taken for sight."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

import torch
from jaxtyping import Float
from torch import Tensor

from interv import VLM, Add, Prompt
from methods import Contrasts, Query
from methods.steerer import Fitted, Strength
from studies.measure.threshold import best_threshold
from studies.tasks.task import Task

YES_NO_CONTROLS = ("LogitThreshold", "ConstantDirection")
THRESHOLD_PROMPTS = 1024  # that the threshold is fitted on at most: each is a pass over an image


def is_yes_no(task: Task) -> bool:
    """Whether the task's answers are yes and no, both of them."""
    return {example.target for example in task.prompts("val")} == {"yes", "no"}


@dataclass(frozen=True, eq=False)
class ConstantDirection(Fitted):
    """Adds the mean vector towards one answer, "no", to every input: what a constant bias can do.

    The mean over training pairs of the vector that points to "no", which is the contrast where "no" is right and its
    opposite where "yes" is. A negative strength pushes towards "yes".
    """

    vector: Float[Tensor, " d_model"]

    @classmethod
    def fit(cls, train: Contrasts) -> "ConstantDirection":
        sign = torch.tensor([{"no": 1.0, "yes": -1.0}[behavior] for behavior in train.behavior])
        vector = (sign[:, None] * train.vectors).mean(dim=0)
        return cls(train.reads, train.writes, train.fingerprint, vector=vector)

    def ops(self, query: Query, strength: Strength = 1.0) -> tuple[Add, ...]:
        return self.add(self.vector, strength)


@dataclass(frozen=True)
class LogitThreshold:
    """Answers yes where logit(yes) - logit(no) of the first reply token exceeds a threshold; nothing is steered.

    `words` are yes and no as the model is to begin with them.
    """

    threshold: float
    yes_id: int
    no_id: int
    words: tuple[str, str] = ("yes", "no")

    @classmethod
    def fit(
        cls,
        vlm: VLM,
        prompts: Sequence[Prompt],
        targets: Sequence[str],
        *,
        words: tuple[str, str] = ("yes", "no"),
        batch_size: int = 64,
    ) -> "LogitThreshold":
        """The threshold that answers most of the training prompts rightly; the middle one where several do.

        Of very many prompts a sample is asked.
        """
        if len(prompts) > THRESHOLD_PROMPTS:
            rows = sorted(Random(0).sample(range(len(prompts)), THRESHOLD_PROMPTS))
            prompts, targets = [prompts[row] for row in rows], [targets[row] for row in rows]
        yes_id, no_id = (first_token(vlm, prompts[0], word) for word in words)
        bare = cls(0.0, yes_id, no_id, words)
        chunks = [prompts[start : start + batch_size] for start in range(0, len(prompts), batch_size)]
        margins = torch.cat([bare.margins(vlm, chunk) for chunk in chunks])
        return replace(bare, threshold=best_threshold(margins, torch.tensor([target == "yes" for target in targets])))

    def margins(self, vlm: VLM, prompts: Sequence[Prompt]) -> Float[Tensor, " batch"]:
        logits = vlm.logits(prompts).float().cpu()
        return logits[:, self.yes_id] - logits[:, self.no_id]

    def answers(self, vlm: VLM, prompts: Sequence[Prompt]) -> list[str]:
        """The word of each answer."""
        yes, no = self.words
        return [yes if margin > self.threshold else no for margin in self.margins(vlm, prompts)]


def answer_words(task: Task) -> tuple[str, str]:
    """Yes and no as the task's forced answers begin with them: "Yes" where these say "Yes, the image ...".

    Where none begins with either word, what the wanted answers of that behaviour begin with.
    """
    begun: Counter[str] = Counter()
    forced: dict[str, str] = {}
    for pair in task.pairs("train"):
        wanted, unwanted = (re.match(r"\s*(\w+)", side.answer) for side in (pair.positive, pair.negative))
        begun.update(found[1] for found in (wanted, unwanted) if found)
        if wanted:
            forced.setdefault(pair.behavior, wanted[1])
    most = {word.lower(): word for word, _ in reversed(begun.most_common())}
    yes, no = (most.get(word) or forced.get(word, word) for word in ("yes", "no"))
    return yes, no


def first_token(vlm: VLM, prompt: Prompt, answer: str) -> int:
    """The token with which this answer to the prompt begins."""
    asked, answered = (vlm.encode([replace(prompt, answer=text)]).tokens(0) for text in ("", answer))
    return int(answered[len(asked)])

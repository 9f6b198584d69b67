"""Answers that the model is made to say, steered or not: how likely each is, and how far steering moves the model.

The reply is decoded as always, from the prefill and with the ops on every token of the scope, but each next token is
the answer's. So it holds for every method, those that mix logits too, and nothing is steered that a reply would not be.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import LogitsProcessor

from interv import VLM, Prompt
from methods.asking import Asked, Run

Ids = Int[Tensor, " _tokens"]  # answers of one list differ in length
# The step, and the log-probabilities of the next token that each row had there: run by run, prompt by prompt.
Use = Callable[[int, Float[Tensor, "rows vocabulary"]], None]


class Forced(LogitsProcessor):
    """Row i says `told[i]`, then the end token; rows behind these, of second streams, follow as they do."""

    def __init__(self, told: Sequence[Ids], end: int, use: Use) -> None:
        self._told, self._end, self._use, self._step = told, end, use, 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # type: ignore[override]
        rows = len(self._told)
        self._use(self._step, scores[:rows].float().log_softmax(dim=-1))
        said = [int(own[self._step]) if self._step < len(own) else self._end for own in self._told]
        forced = torch.full_like(scores[:rows], float("-inf"))
        forced[torch.arange(rows), torch.tensor(said, device=scores.device)] = 0.0
        self._step += 1
        return torch.cat([forced, scores[rows:]])


def say(vlm: VLM, asked: Asked, runs: Sequence[Run], told: Sequence[Ids], use: Use) -> None:
    """Have every run say `told`, one answer a prompt; the log-probabilities of each step go to `use`."""
    end = vlm.model.generation_config.eos_token_id
    forced = Forced([*told] * len(runs), (end[0] if isinstance(end, list) else end) or 0, use)
    asked.answered(vlm, runs, logits_processor=[forced], max_new_tokens=max(map(len, told)))


def log_likelihoods(vlm: VLM, asked: Asked, runs: Sequence[Run], told: Sequence[Ids]) -> Float[Tensor, "runs prompts"]:
    """Mean log-probability of a token of each prompt's answer, in nats."""
    rows, lengths = [*told] * len(runs), torch.tensor([len(own) for own in told])
    total = torch.zeros(len(rows))

    def use(step: int, found: Tensor) -> None:
        for row, own in enumerate(rows):
            if step < len(own):
                total[row] += found[row, own[step]].cpu()

    say(vlm, asked, runs, told, use)
    return total.unflatten(0, (len(runs), len(told))) / lengths


def divergences(
    vlm: VLM, plain: tuple[Asked, Run], asked: Asked, runs: Sequence[Run], told: Sequence[Ids]
) -> Float[Tensor, "runs prompts"]:
    """KL divergence of the next token's distribution from the plain run's, in nats, mean over the answer's tokens."""
    unsteered: list[Tensor] = []
    say(vlm, plain[0], [plain[1]], told, lambda step, found: unsteered.append(found))
    lengths = torch.tensor([len(own) for own in told])
    total = torch.zeros(len(runs), len(told))

    def use(step: int, found: Tensor) -> None:
        steered = found.unflatten(0, (len(runs), len(told)))
        # Where a mix leaves a token no probability, it has no part in the sum.
        terms = torch.where(steered.isneginf(), 0.0, steered.exp() * (steered - unsteered[step]))
        total.add_(terms.sum(dim=-1).clamp_min(0.0).cpu() * (step < lengths))

    say(vlm, asked, runs, told, use)
    return total / lengths


def answer_ids(vlm: VLM, prompts: Sequence[Prompt], *answers: Sequence[str]) -> list[list[Ids]]:
    """The tokens of each list of answers, one a prompt, as the chat template puts them behind it.

    Raises ValueError where an answer changes the tokens before it, or has none.
    """
    variants = [[replace(one, answer=text) for one, text in zip(prompts, own, strict=True)] for own in answers]
    bare, *encoded = vlm.encode_variants([list(prompts), *variants])
    found = []
    for own, texts in zip(encoded, answers, strict=True):
        rows = []
        for row, text in enumerate(texts):
            before, whole = bare.tokens(row), own.tokens(row)
            if len(whole) <= len(before) or not torch.equal(whole[: len(before)], before):
                raise ValueError(
                    f"The answer {text[:60]!r} is not told apart from its question by the tokens of {vlm.name}; "
                    "give an answer with a word in it."
                )
            rows.append(whole[len(before) :].cpu())
        found.append(rows)
    return found

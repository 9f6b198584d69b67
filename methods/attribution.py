"""Which heads push the model's mistakes: each is removed at the token that says one, and the token's loss measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from more_itertools import chunked
from torch import Tensor

from interv import VLM, Prompt, Scale, Site
from interv.display import OneLine
from methods.checks import DoesNotApply


@dataclass(frozen=True)
class Said:
    """A prompt, with the reply so far as its answer, behind which the model says a word: a mistake, or not."""

    prompt: Prompt
    wrong: bool


@dataclass(frozen=True, eq=False)
class Attribution(OneLine):
    """What each head adds to the probability of the token that the model says.

    Attributes:
        influence: p(token) - p(token without the head), for each of the places that were looked at.
        wrong: which of these are mistakes.
        fingerprint: of the model.
    """

    influence: Float[Tensor, "places layers heads"]
    wrong: Bool[Tensor, " places"]
    fingerprint: str

    def __post_init__(self) -> None:
        """Raises DoesNotApply where there is no mistake, or nothing right, to compare."""
        _check_both_kinds(self.wrong)

    def shown(self) -> dict[str, Any]:
        layers, heads = self.influence.shape[1:]
        return {"places": len(self.wrong), "mistakes": int(self.wrong.sum()), "layers": layers, "heads": heads}

    @property
    def scores(self) -> Float[Tensor, "layers heads"]:
        """The mean influence on mistakes, less that on what is right."""
        return self.influence[self.wrong].mean(dim=0) - self.influence[~self.wrong].mean(dim=0)

    def top(self, share: float) -> list[tuple[int, int]]:
        """(block, head) of the share with the greatest scores, greatest first; at least one."""
        return self._placed(self.scores.flatten().sort(descending=True, stable=True).indices, share)

    def drawn(self, share: float, seed: int) -> list[tuple[int, int]]:
        """As many heads at random."""
        order = torch.randperm(self.scores.numel(), generator=torch.Generator().manual_seed(seed))
        return self._placed(order, share)

    def _placed(self, order: Tensor, share: float) -> list[tuple[int, int]]:
        if not 0 < share <= 1:
            raise ValueError(f"share is {share}; it is a part of all heads, more than 0 and at most 1.")
        heads = self.scores.shape[1]
        count = max(1, round(share * self.scores.numel()))
        return [divmod(place, heads) for place in order[:count].tolist()]


def attribute_heads(vlm: VLM, said: Sequence[Said], *, batch_size: int = 64) -> Attribution:
    """Remove every head of every block, one at a time, where the model says its next token.

    The prompt runs once with all heads; a head is removed at the last token alone, its z at the input of the output
    projection set to zero. Source: AD-HH's published code ("prob_diff"), which reruns the step for each head; here the
    heads are rows of one batch, `batch_size` at once, those of several places where these are fewer.

    Raises DoesNotApply where there are no mistakes among the places, or nothing else.
    """
    wrong = torch.tensor([one.wrong for one in said], dtype=torch.bool)
    _check_both_kinds(wrong)
    heads = vlm.model.config.get_text_config().num_attention_heads
    every = [(layer, head) for layer in range(vlm.n_layers) for head in range(heads)]
    influence = []
    for places in chunked(said, max(1, batch_size // len(every))):
        prefill = vlm.prefill([one.prompt for one in places])
        whole = vlm.logits(prefill).float().softmax(dim=-1)
        tokens = whole.argmax(dim=-1)
        without = []
        for part in chunked(every, batch_size):
            logits = vlm.logits(prefill.select(list(range(len(places))) * len(part)), removals(part, len(places)))
            chances = logits.float().softmax(dim=-1).unflatten(0, (len(part), len(places)))
            without.append(chances[:, range(len(places)), tokens])
        said_by = whole[range(len(places)), tokens] - torch.cat(without)
        influence.append(said_by.T.reshape(len(places), vlm.n_layers, heads).cpu())
    return Attribution(torch.cat(influence), wrong, vlm.fingerprint)


def _check_both_kinds(wrong: Bool[Tensor, " places"]) -> None:
    if wrong.all() or not wrong.any():
        raise DoesNotApply(
            f"Of {len(wrong)} places {int(wrong.sum())} are mistakes; heads are told by the difference between "
            "mistakes and what is right, so give some of both."
        )


def removals(heads: Sequence[tuple[int, int]], places: int = 1) -> list[Scale]:
    """Ops for a batch whose rows lack the i-th head, so many rows for each head."""
    factors = 1 - torch.eye(len(heads)).repeat_interleave(places, dim=1)
    return [
        Scale(Site(layer, "hook_z", head=head), factor, "last_prompt")
        for (layer, head), factor in zip(heads, factors, strict=True)
    ]

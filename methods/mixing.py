"""Two streams of one batch decode together: the first one's logits are mixed with the second's, which then follows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import LogitsProcessor, StoppingCriteria

Logits = Float[Tensor, "batch vocabulary"]
Mix = Callable[[Logits, Logits], Logits]  # (a run's logits, its companions') -> what its next tokens are chosen by


@dataclass(frozen=True, eq=False)
class Pairing:
    """The rows of one run, those of its companions, and how their logits are mixed."""

    own: slice
    companion: slice
    mix: Mix


class Mixed(LogitsProcessor):
    """Mixes the logits of each pairing; other rows keep theirs. `rows` are those of the batch, before copies."""

    def __init__(self, pairings: Sequence[Pairing], rows: int) -> None:
        self._pairings, self._rows = pairings, rows

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # type: ignore[override]
        by_row = scores.unflatten(0, (self._rows, -1))  # generation repeats each row, for several replies a prompt
        changed = by_row.clone()
        for pairing in self._pairings:
            own, companion = by_row[pairing.own], by_row[pairing.companion]
            # Copy by copy: a mix knows one strength a row.
            for copy in range(own.shape[1]):
                changed[pairing.own, copy] = pairing.mix(own[:, copy], companion[:, copy])
        return changed.flatten(0, 1)


class Following(StoppingCriteria):
    """Companions are given the token that their run said, drawn or not, and never keep a reply from ending."""

    def __init__(self, pairings: Sequence[Pairing], rows: int) -> None:
        self._pairings, self._rows = pairings, rows

    def __call__(self, input_ids: Int[Tensor, "batch seq"], scores: Any, **kwargs: Any) -> Tensor:  # type: ignore[override]
        done = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
        newest = input_ids[:, -1].unflatten(
            0, (self._rows, -1)
        )  # a view: what is written here is read in the next step
        for pairing in self._pairings:
            newest[pairing.companion] = newest[pairing.own]
            done.unflatten(0, (self._rows, -1))[pairing.companion] = True
        return done


def cut_off(mixed: Logits, own: Logits, share: float) -> Logits:
    """Minus infinity where the run's own probability is less than this share of its greatest one."""
    if share <= 0:
        return mixed
    least = own.amax(dim=-1, keepdim=True) + torch.log(torch.tensor(share, device=own.device))
    return mixed.masked_fill(own < least, -torch.inf)


def where_steered(mixed: Logits, own: Logits, strength: float | int | Tensor) -> Logits:
    """The mixed logits in rows with a strength; a row of strength 0 keeps its own, bit by bit."""
    steered = torch.as_tensor(strength, device=own.device) != 0
    return torch.where(steered.reshape(-1, 1), mixed, own)

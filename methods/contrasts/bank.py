"""Contrasts of several layers at once, of which any two are picked."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interv import VLM, Prompt
from interv.display import OneLine
from methods.contrasts.contrasts import Contrasts
from methods.contrasts.reads import Pool, contexts_of
from methods.contrasts.storage import load_fields, save_fields


@dataclass(frozen=True, eq=False)
class ContrastBank(OneLine):
    """Captured contrasts at several layers at once; `at` picks two of them.

    `skipped` lists (id, reason) of the pairs that could not be used.
    """

    context: Float[Tensor, "pairs layers d_model"]
    positive: Float[Tensor, "pairs layers d_model"]
    negative: Float[Tensor, "pairs layers d_model"]
    agnostic: Float[Tensor, "pairs layers d_model"] | None
    behavior: tuple[str, ...]
    id: tuple[str, ...]
    layers: tuple[int, ...]
    fingerprint: str
    skipped: tuple[tuple[str, str], ...] = ()
    context_pool: Pool = "last_prompt"

    def __len__(self) -> int:
        return len(self.context)

    def shown(self) -> dict[str, Any]:
        skipped = {"skipped": len(self.skipped)} if self.skipped else {}
        return {"pairs": len(self), "layers": self.layers, "width": self.context.shape[2]} | skipped

    def at(self, reads: int, writes: int) -> Contrasts:
        """The context read at block `reads`, the contrast at block `writes`, both counted from 0."""
        read, write = self._index(reads), self._index(writes)
        return Contrasts(
            self.context[:, read],
            self.positive[:, write],
            self.negative[:, write],
            self.behavior,
            self.id,
            reads,
            writes,
            self.fingerprint,
            None if self.agnostic is None else self.agnostic[:, write],
            context_pool=self.context_pool,
        )

    def reading(self, vlm: VLM, prompts: Sequence[Prompt], pool: Pool, *, batch_size: int = 8) -> "ContrastBank":
        """The same contrasts with contexts pooled over other tokens of these prompts, one a pair in the bank's order.

        Raises ValueError for another number of prompts, or for another model.
        """
        if len(prompts) != len(self):
            raise ValueError(
                f"There are {len(prompts)} prompts for {len(self)} pairs; give one a pair, in their order."
            )
        if vlm.fingerprint != self.fingerprint:
            raise ValueError(f"These contrasts are of model {self.fingerprint}; {vlm.name} is {vlm.fingerprint}.")
        context = contexts_of(vlm, prompts, self.layers, pool, batch_size)
        return replace(self, context=context, context_pool=pool)

    def rows(self, index: Sequence[int]) -> "ContrastBank":
        """These rows, in this order."""
        chosen = list(index)
        return replace(
            self,
            context=self.context[chosen],
            positive=self.positive[chosen],
            negative=self.negative[chosen],
            agnostic=None if self.agnostic is None else self.agnostic[chosen],
            behavior=tuple(self.behavior[i] for i in chosen),
            id=tuple(self.id[i] for i in chosen),
        )

    def save(self, folder: str | Path) -> None:
        """Write `contrasts.safetensors` and `contrasts.json` into the folder."""
        save_fields(self, folder)

    @classmethod
    def load(cls, folder: str | Path) -> "ContrastBank":
        """Read what `save` wrote. Raises ValueError where the folder holds no bank."""
        return cls(**load_fields(folder, cls, "layers"))

    def _index(self, layer: int) -> int:
        if layer not in self.layers:
            raise ValueError(f"Layer {layer} was not captured; there are {', '.join(map(str, self.layers))}.")
        return self.layers.index(layer)


def join(banks: Sequence[ContrastBank], skipped: Sequence[tuple[str, str]] = ()) -> ContrastBank:
    """The rows of several banks of one model, in order."""
    first = banks[0]
    every = [bank.agnostic for bank in banks if bank.agnostic is not None]
    return ContrastBank(
        torch.cat([bank.context for bank in banks]),
        torch.cat([bank.positive for bank in banks]),
        torch.cat([bank.negative for bank in banks]),
        torch.cat(every) if every else None,
        tuple(name for bank in banks for name in bank.behavior),
        tuple(name for bank in banks for name in bank.id),
        first.layers,
        first.fingerprint,
        tuple(skipped),
    )

"""What the methods learn from: activations of a wanted and an unwanted completion of the same input."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interv.display import OneLine
from methods.contrasts.reads import Pool
from methods.contrasts.storage import load_fields, save_fields


@dataclass(frozen=True, eq=False)
class Contrasts(OneLine):
    """Training rows for one pair of layers; tensors only, no model.

    Attributes:
        context: hidden state leaving block `reads` at the last prompt token, or pooled as `context_pool` says.
        positive, negative: hidden states leaving block `writes`, pooled over the completion.
        agnostic: contrast vectors of the second pair, where there was one.
        behavior, id: of each row.
        fingerprint: of the model.
        scale: what each row's vector is multiplied by; `equalised` and `silenced` set it.
    """

    context: Float[Tensor, "pairs d_model"]
    positive: Float[Tensor, "pairs d_model"]
    negative: Float[Tensor, "pairs d_model"]
    behavior: tuple[str, ...]
    id: tuple[str, ...]
    reads: int
    writes: int
    fingerprint: str
    agnostic: Float[Tensor, "pairs d_model"] | None = None
    scale: Float[Tensor, " pairs"] | None = None
    context_pool: Pool = "last_prompt"

    def __len__(self) -> int:
        return len(self.context)

    def shown(self) -> dict[str, Any]:
        return {"pairs": len(self), "reads": self.reads, "writes": self.writes, "width": self.width}

    @property
    def width(self) -> int:
        return self.context.shape[1]

    @property
    def vectors(self) -> Float[Tensor, "pairs d_model"]:
        """z = h(X+) - h(X-) at the steering layer, times `scale`. Source: arXiv:2508.12815, Sec. 3 (P2S)."""
        difference = self.positive - self.negative
        return difference if self.scale is None else difference * self.scale[:, None]

    @property
    def mean_vector(self) -> Float[Tensor, " d_model"]:
        return self.vectors.mean(dim=0)

    @property
    def mean_norm(self) -> Float[Tensor, ""]:
        """The mean length of the contrast vectors."""
        return self.vectors.norm(dim=1).mean()

    @property
    def mean_agnostic(self) -> Float[Tensor, " d_model"] | None:
        """The mean contrast vector of the second pair, where there was one."""
        return None if self.agnostic is None else self.agnostic.mean(dim=0)

    def equalised(self, groups: Sequence[Sequence[str]]) -> "Contrasts":
        """Each group of behaviours brought to the first group's mean norm; behaviours in no group stay as they are.

        Source: published code, MM-SafetyBench, before L2S and P2S but not before mean steering; it takes the norms over
        all items, so equalise before `rows`. It needs all rows in memory: of contrasts in shards, those that
        `ShardedContrasts.loaded()` gives. Raises ValueError where the first group has no row, or none but zeros.
        """
        if not groups:
            return self
        norms = self.vectors.norm(dim=1)
        members = [torch.tensor([name in group for name in self.behavior], device=norms.device) for group in groups]
        if not norms[members[0]].any():
            raise ValueError(
                f"No row of {', '.join(groups[0])} gives a norm to bring the others to; there are "
                f"{', '.join(sorted(set(self.behavior)))}. Put a behaviour first that the contrasts have."
            )
        scale = torch.ones_like(norms) if self.scale is None else self.scale.clone()
        for member in members[1:]:
            if norms[member].any():
                scale[member] *= norms[members[0]].mean() / norms[member].mean()
        return replace(self, scale=scale)

    def silenced(self, behaviors: Collection[str] = (), ids: Collection[str] = ()) -> "Contrasts":
        """Zero vectors for inputs that must not be steered, by their behaviour or their id.

        That is what selective steering learns (arXiv:2508.12815, A.1), and what a gate learns from (`L2SGated`).
        """
        rows = zip(self.behavior, self.id, strict=True)
        keep = torch.tensor(
            [name not in behaviors and id_ not in ids for name, id_ in rows], device=self.context.device
        )
        scale = torch.ones(len(self), device=self.context.device) if self.scale is None else self.scale
        return replace(self, scale=scale * keep)

    def rows(self, index: Sequence[int]) -> "Contrasts":
        """These rows, in this order."""
        chosen = list(index)
        return Contrasts(
            self.context[chosen],
            self.positive[chosen],
            self.negative[chosen],
            tuple(self.behavior[i] for i in chosen),
            tuple(self.id[i] for i in chosen),
            self.reads,
            self.writes,
            self.fingerprint,
            None if self.agnostic is None else self.agnostic[chosen],
            None if self.scale is None else self.scale[chosen],
            self.context_pool,
        )

    def save(self, folder: str | Path) -> None:
        """Write `contrasts.safetensors` and `contrasts.json` into the folder."""
        save_fields(self, folder)

    @classmethod
    def load(cls, folder: str | Path) -> "Contrasts":
        """Read what `save` wrote. Raises ValueError where the folder holds no contrasts of one pair of layers."""
        return cls(**load_fields(folder, cls, "reads"))

"""Contrasts that lie in a folder of shards, read where they lie."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interv.display import OneLine
from methods.contrasts.bank import ContrastBank, join
from methods.contrasts.contrasts import Contrasts
from methods.contrasts.shards import Store


@dataclass(frozen=True, eq=False)
class ShardedContrasts(OneLine):
    """As `Contrasts`, in parts that lie in files; rows are read when they are asked for."""

    parts: tuple[Contrasts, ...]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    @property
    def reads(self) -> int:
        return self.parts[0].reads

    @property
    def writes(self) -> int:
        return self.parts[0].writes

    @property
    def fingerprint(self) -> str:
        return self.parts[0].fingerprint

    @cached_property
    def behavior(self) -> tuple[str, ...]:
        return tuple(name for part in self.parts for name in part.behavior)

    @cached_property
    def id(self) -> tuple[str, ...]:
        return tuple(name for part in self.parts for name in part.id)

    @property
    def width(self) -> int:
        return self.parts[0].context.shape[1]

    def shown(self) -> dict[str, Any]:
        return {"pairs": len(self), "shards": len(self.parts), "reads": self.reads, "writes": self.writes}

    @cached_property
    def _ends(self) -> Int[Tensor, " parts"]:
        return torch.tensor(list(accumulate(map(len, self.parts))))

    def take(self, rows: Int[Tensor, " rows"]) -> tuple[Float[Tensor, "rows d_model"], Float[Tensor, "rows d_model"]]:
        """Contexts and contrast vectors of these rows, in this order, in memory."""
        part_of = torch.searchsorted(self._ends, rows, right=True)
        context, vectors = (torch.empty(len(rows), self.width) for _ in range(2))
        for number in part_of.unique().tolist():
            part, here = self.parts[number], (part_of == number).nonzero().flatten()
            own = rows[here] - (int(self._ends[number]) - len(part))
            context[here] = part.context[own].float()
            difference = part.positive[own].float() - part.negative[own].float()
            vectors[here] = difference if part.scale is None else difference * part.scale[own, None]
        return context, vectors

    def batches(self, size: int = 256) -> Iterator[tuple[Tensor, Tensor]]:
        """All rows in order, `size` at a time."""
        for rows in torch.arange(len(self)).split(size):
            yield self.take(rows)

    @property
    def mean_vector(self) -> Float[Tensor, " d_model"]:
        return self._mean(lambda vectors: vectors.sum(dim=0))

    @property
    def mean_norm(self) -> Float[Tensor, ""]:
        """The mean length of the contrast vectors."""
        return self._mean(lambda vectors: vectors.norm(dim=1).sum())

    @property
    def mean_agnostic(self) -> Float[Tensor, " d_model"] | None:
        """The mean contrast vector of the second pair, where there was one."""
        every = [part.agnostic for part in self.parts if part.agnostic is not None]
        return torch.stack([part.float().sum(dim=0) for part in every]).sum(dim=0) / len(self) if every else None

    def loaded(self) -> Contrasts:
        """All of it in memory, for changes that need every row at once."""
        every = [part.agnostic for part in self.parts if part.agnostic is not None]
        scales = [torch.ones(len(part)) if part.scale is None else part.scale for part in self.parts]
        return Contrasts(
            torch.cat([part.context for part in self.parts]),
            torch.cat([part.positive for part in self.parts]),
            torch.cat([part.negative for part in self.parts]),
            self.behavior,
            self.id,
            self.reads,
            self.writes,
            self.fingerprint,
            torch.cat(every) if every else None,
            torch.cat(scales) if any(part.scale is not None for part in self.parts) else None,
            self.parts[0].context_pool,
        )

    def _mean(self, total: Callable[[Tensor], Tensor]) -> Tensor:
        return torch.stack([total(vectors) for _, vectors in self.batches()]).sum(dim=0) / len(self)


@dataclass(frozen=True, eq=False)
class BankShards(OneLine):
    """As `ContrastBank`, over the shards of a folder; nothing is read before it is used."""

    parts: tuple[ContrastBank, ...]

    @classmethod
    def open(cls, folder: str | Path) -> "BankShards":
        """Raises ValueError where the folder is not complete or none of its pairs could be used."""
        store = Store.of(folder)
        if missing := store.missing():
            raise ValueError(
                f"{folder} lacks {len(missing)} of {len(store)} shards; call capture_contrasts again to complete it."
            )
        opened = cls(tuple(store.read(number) for number in range(len(store))))
        if not len(opened):
            raise ValueError(f"None of the {store.pairs} contrast pairs can be used; the first: {opened.skipped[:1]}.")
        return opened

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def shown(self) -> dict[str, Any]:
        return {"pairs": len(self), "shards": len(self.parts), "layers": self.parts[0].layers}

    @property
    def skipped(self) -> tuple[tuple[str, str], ...]:
        return tuple(entry for part in self.parts for entry in part.skipped)

    def at(self, reads: int, writes: int) -> ShardedContrasts:
        """The context read at block `reads`, the contrast at block `writes`, both counted from 0."""
        return ShardedContrasts(tuple(part.at(reads, writes) for part in self.parts))

    def loaded(self) -> ContrastBank:
        """All of it in memory."""
        return join(self.parts, self.skipped)


AnyContrasts = Contrasts | ShardedContrasts

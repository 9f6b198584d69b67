"""Contrasts that need not fit into memory: a folder of shards, written one by one and read where they lie."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from interv import VLM
from methods.contrasts import ContrastBank, ContrastPair, Contrasts, join

SHARD_BYTES = 256 * 2**20  # what is held before it is written, and what a kill may cost
NAMES = ("context", "positive", "negative", "agnostic")
_CARD, _PLAN = "card", "shards.json"


@dataclass(frozen=True)
class Store:
    """A folder that is being filled: `shards.json` says what belongs there, then one file a shard."""

    folder: Path
    pairs: int
    pairs_a_shard: int
    layers: tuple[int, ...]
    width: int
    fingerprint: str
    agnostic: bool

    @classmethod
    def begin(
        cls, folder: str | Path, vlm: VLM, pooled: Sequence[tuple[ContrastPair, str]], settings: dict[str, Any]
    ) -> "Store":
        """Start or go on. Raises ValueError where the folder was begun with other pairs, settings or model."""
        if not pooled:
            raise ValueError("There are no contrast pairs; give at least one.")
        layers, agnostic = settings["layers"], pooled[0][0].agnostic is not None
        row = 4 * (3 + agnostic) * len(layers) * vlm.d_model
        batch = settings["batch_size"]
        plan = {
            "pairs": len(pooled),
            "pairs_a_shard": batch * max(1, SHARD_BYTES // (row * batch)),
            "layers": list(layers),
            "width": vlm.d_model,
            "fingerprint": vlm.fingerprint,
            "agnostic": agnostic,
            "settings": {name: value for name, value in settings.items() if name != "layers"},
            "asked": _digest(pooled),
        }
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        known = json.loads((path / _PLAN).read_text()) if (path / _PLAN).exists() else None
        if known is None:
            _replace(path / _PLAN, lambda new: new.write_text(json.dumps(plan, indent=1)))
        elif odd := [name for name, value in json.loads(json.dumps(plan)).items() if known.get(name) != value]:
            raise ValueError(
                f"{path} was begun with other {', '.join(odd)}; pass the same pairs and settings to go on, or another "
                "folder."
            )
        return cls.of(path)

    @classmethod
    def of(cls, folder: str | Path) -> "Store":
        """The folder as it was begun. Raises ValueError where it holds no shards."""
        path = Path(folder)
        if not (path / _PLAN).exists():
            raise ValueError(f"{path} holds no {_PLAN}; give a folder that capture_contrasts(out=...) wrote.")
        plan = json.loads((path / _PLAN).read_text())
        names = ("pairs", "pairs_a_shard", "width", "fingerprint", "agnostic")
        return cls(folder=path, layers=tuple(plan["layers"]), **{name: plan[name] for name in names})

    def __len__(self) -> int:
        return -(-self.pairs // self.pairs_a_shard)

    def rows(self, number: int) -> slice:
        """Which of the pairs make a shard."""
        return slice(number * self.pairs_a_shard, (number + 1) * self.pairs_a_shard)

    def path(self, number: int) -> Path:
        return self.folder / f"contrasts-{number:05d}-of-{len(self):05d}.safetensors"

    def missing(self) -> list[int]:
        return [number for number in range(len(self)) if not self.path(number).exists()]

    def write(self, number: int, bank: ContrastBank | None, skipped: Sequence[tuple[str, str]]) -> None:
        """One shard, whole or not at all: it gets its name when it is complete."""
        names = NAMES if self.agnostic else NAMES[:3]
        empty = torch.zeros(0, len(self.layers), self.width)
        tensors = {name: empty if bank is None else getattr(bank, name).contiguous() for name in names}
        card = {"behavior": bank.behavior if bank else (), "id": bank.id if bank else (), "skipped": list(skipped)}
        _replace(self.path(number), lambda new: save_file(tensors, new, metadata={_CARD: json.dumps(card)}))

    def read(self, number: int) -> ContrastBank:
        """One shard; its tensors are the file, memory-mapped."""
        with safe_open(self.path(number), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dict
            card = json.loads(file.metadata()[_CARD])
        return ContrastBank(
            tensors["context"],
            tensors["positive"],
            tensors["negative"],
            tensors.get("agnostic"),
            tuple(card["behavior"]),
            tuple(card["id"]),
            self.layers,
            self.fingerprint,
            tuple((id_, reason) for id_, reason in card["skipped"]),
        )


@dataclass(frozen=True, eq=False)
class ShardedContrasts:
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

    @property
    def width(self) -> int:
        return self.parts[0].context.shape[1]

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
            vectors[here] = part.positive[own].float() - part.negative[own].float()
        return context, vectors

    def batches(self, size: int = 256) -> Iterator[tuple[Tensor, Tensor]]:
        """All rows in order, `size` at a time."""
        for rows in torch.arange(len(self)).split(size):
            yield self.take(rows)

    def loaded(self) -> Contrasts:
        """All of it in memory, for methods and changes that need every row at once."""
        every = [part.agnostic for part in self.parts if part.agnostic is not None]
        return Contrasts(
            torch.cat([part.context for part in self.parts]),
            torch.cat([part.positive for part in self.parts]),
            torch.cat([part.negative for part in self.parts]),
            self.behavior,
            tuple(id_ for part in self.parts for id_ in part.id),
            self.reads,
            self.writes,
            self.fingerprint,
            torch.cat(every) if every else None,
        )


@dataclass(frozen=True, eq=False)
class BankShards:
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

    @property
    def skipped(self) -> tuple[tuple[str, str], ...]:
        return tuple(entry for part in self.parts for entry in part.skipped)

    def at(self, reads: int, writes: int) -> ShardedContrasts:
        """The context read at block `reads`, the contrast at block `writes`, both counted from 0."""
        return ShardedContrasts(tuple(part.at(reads, writes) for part in self.parts))

    def loaded(self) -> ContrastBank:
        """All of it in memory."""
        return join(self.parts, self.skipped)


def _digest(pooled: Sequence[tuple[ContrastPair, str]]) -> str:
    """What was asked for, images left out but for their names."""
    digest = hashlib.sha256()
    for pair, pool in pooled:
        texts = [(p.question, p.answer, p.system, p.closed, p.history) for p in pair.variants()]
        image = pair.prompt.image
        name = str(image) if isinstance(image, str | Path) else ""
        digest.update(json.dumps([pair.id, pair.behavior, pool, name, texts]).encode())
    return digest.hexdigest()


def _replace(path: Path, write: Any) -> None:
    """Write a file beside its place and move it there, so that it is there whole or not at all."""
    new = path.with_name(path.name + ".part")
    write(new)
    os.replace(new, path)

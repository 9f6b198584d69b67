"""A folder of contrasts that need not fit into memory, filled shard by shard."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from interv import VLM
from interv.prompts.pictures import Picture
from methods.contrasts.bank import ContrastBank
from methods.contrasts.pair import ContrastPair
from methods.contrasts.separate import separate

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
        layers, agnostic = settings["layers"], pooled[0][0].agnostic is not None
        row = 4 * (3 + agnostic) * len(layers) * vlm.d_model
        batch = settings["batch_size"]
        plan = {
            "pairs": len(pooled),
            "pairs_a_shard": batch * max(1, SHARD_BYTES // (row * batch)),
            "layers": list(layers),
            "width": vlm.d_model,
            "fingerprint": vlm.fingerprint,
            "preprocessing": vlm.preprocessing,
            "agnostic": agnostic,
            "settings": {name: value for name, value in settings.items() if name != "layers"},
            "asked": _digest(pooled),
        }
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        known = json.loads((path / _PLAN).read_text()) if (path / _PLAN).exists() else None
        if known is None:
            _replace(path / _PLAN, lambda new: new.write_text(json.dumps(plan, indent=1)))
        elif odd := _differing(known, json.loads(json.dumps(plan))):
            raise ValueError(
                f"{path} was begun with other {', '.join(odd)}; pass the same pairs, settings and processor to go on, "
                "or another folder."
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
        tensors = separate({name: empty if bank is None else getattr(bank, name) for name in names})
        card = {"behavior": bank.behavior if bank else (), "id": bank.id if bank else (), "skipped": list(skipped)}
        _replace(self.path(number), lambda new: save_file(tensors, new, metadata={_CARD: json.dumps(card)}))

    def read(self, number: int) -> ContrastBank:
        """One shard; its tensors are the file, memory-mapped. Raises ValueError where the file is not whole."""
        try:
            with safe_open(self.path(number), framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dict
                card = json.loads(file.metadata()[_CARD])
        except (SafetensorError, TypeError, KeyError, ValueError) as error:  # the last three: it has no card
            raise ValueError(
                f"{self.path(number)} is broken ({error}); delete it and call capture_contrasts again to write it anew."
            ) from error
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


def _differing(known: dict[str, Any], plan: dict[str, Any]) -> list[str]:
    """The names of what is not as it was, the parts of the preprocessing by theirs."""
    odd = [name for name, value in plan.items() if known.get(name) != value]
    if "preprocessing" not in odd:
        return odd
    if "preprocessing" not in known:
        return [*(name for name in odd if name != "preprocessing"), "preprocessing (of which it says nothing)"]
    before, now = known["preprocessing"], plan["preprocessing"]
    parts = [f"{name} ({before.get(name)}, now {value})" for name, value in now.items() if before.get(name) != value]
    return [*(name for name in odd if name != "preprocessing"), *parts]


def _digest(pooled: Sequence[tuple[ContrastPair, str]]) -> str:
    """What was asked for, images too."""
    digest = hashlib.sha256()
    known: dict[int, Any] = {}  # the pairs keep their images, so an id stands for one object here
    for pair, pool in pooled:
        texts = [(p.messages(), p.answer, p.closed) for p in pair.variants()]
        images = []
        for prompt in pair.variants():
            for picture in prompt.pictures():
                if id(picture) not in known:
                    known[id(picture)] = _mark(picture)
            images.append([known[id(picture)] for picture in prompt.pictures()])
        digest.update(json.dumps([pair.id, pair.behavior, pool, images, texts]).encode())
    return digest.hexdigest()


def _mark(image: Picture) -> Any:
    """What tells images apart without opening files: the path and the file's size, or the bytes or the pixels."""
    if isinstance(image, Mapping):
        content = image.get("bytes")
        return [hashlib.sha256(content).hexdigest()] if content else _mark(str(image.get("path")))
    if isinstance(image, str | Path):
        return [str(image), os.path.getsize(image) if os.path.exists(image) else None]
    try:
        pixels = image.tobytes()
    except (OSError, SyntaxError, ValueError):  # Pillow reads a file when its pixels are asked for; it is skipped later
        return "unreadable"
    clear = repr(image.info.get("transparency"))
    return [image.mode, image.size, image.getpalette(), clear, hashlib.sha256(pixels).hexdigest()]


def _replace(path: Path, write: Any) -> None:
    """Write a file beside its place and move it there, so that it is there whole or not at all."""
    new = path.with_name(path.name + ".part")
    write(new)
    os.replace(new, path)

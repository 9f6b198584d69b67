"""What the methods learn from: activations of a wanted and an unwanted completion of the same input."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor

from interv import Prompt

_TENSORS, _CARD = "contrasts.safetensors", "contrasts.json"


@dataclass(frozen=True)
class ContrastPair:
    """One training example.

    Args:
        prompt: what is asked at test time; the context is read at its last token.
        positive: the same input with the wanted completion; may carry another question and a forced answer.
        negative: the same input with the unwanted completion.
        behavior: which behaviour the example calls for.
        agnostic: a second (positive, negative) that asks the same question for every behaviour.
    """

    prompt: Prompt
    positive: Prompt
    negative: Prompt
    behavior: str = ""
    id: str = ""
    agnostic: tuple[Prompt, Prompt] | None = None

    def variants(self) -> tuple[Prompt, ...]:
        return (self.prompt, self.positive, self.negative, *(self.agnostic or ()))


@dataclass(frozen=True, eq=False)
class Contrasts:
    """Training rows for one pair of layers; tensors only, no model.

    Attributes:
        context: hidden state leaving block `reads` at the last prompt token.
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

    def __len__(self) -> int:
        return len(self.context)

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

    def silenced(self, behaviors: Sequence[str]) -> "Contrasts":
        """Zero vectors for inputs that must not be steered: what selective steering learns (arXiv:2508.12815, A.1)."""
        keep = torch.tensor([name not in behaviors for name in self.behavior], device=self.context.device)
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
        )

    def save(self, folder: str | Path) -> None:
        """Write `contrasts.safetensors` and `contrasts.json` into the folder."""
        _save(self, folder)

    @classmethod
    def load(cls, folder: str | Path) -> "Contrasts":
        """Read what `save` wrote. Raises ValueError where the folder holds no contrasts of one pair of layers."""
        return cls(**_load(folder, cls, "reads"))


@dataclass(frozen=True, eq=False)
class ContrastBank:
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

    def __len__(self) -> int:
        return len(self.context)

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
        )

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
        _save(self, folder)

    @classmethod
    def load(cls, folder: str | Path) -> "ContrastBank":
        """Read what `save` wrote. Raises ValueError where the folder holds no bank."""
        return cls(**_load(folder, cls, "layers"))

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


def _save(contrasts: Contrasts | ContrastBank, folder: str | Path) -> None:
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    values = {field.name: getattr(contrasts, field.name) for field in fields(contrasts)}
    tensors = {name: value.contiguous() for name, value in values.items() if isinstance(value, Tensor)}
    save_file(tensors, path / _TENSORS)
    card = {name: value for name, value in values.items() if name not in tensors and value is not None}
    (path / _CARD).write_text(json.dumps(card, indent=1))


def _load(folder: str | Path, kind: type, mark: str) -> dict[str, Any]:
    """The fields of a saved value; `mark` is one that only this kind of value has."""
    path = Path(folder)
    card = json.loads((path / _CARD).read_text()) if (path / _CARD).exists() else {}
    if mark not in card:
        raise ValueError(f"{path} holds no {kind.__name__}; give a folder that {kind.__name__}.save wrote.")
    return {"agnostic": None} | {name: _tuples(value) for name, value in card.items()} | load_file(path / _TENSORS)


def _tuples(value: Any) -> Any:
    """JSON's lists as the tuples that they were."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value

"""The edits: plain values, each a pure function of a hidden state."""

from dataclasses import dataclass

import torch
from torch import Tensor

from interv.ops.op import Formula
from interv.ops.values import Number, Rows, check_number
from interv.places.scope import Scope
from interv.places.site import SiteLike


@dataclass(frozen=True, eq=False)
class Add(Formula):
    """Add `strength * vector` to the hidden state of the scope's tokens (arXiv:2508.12815, Eq. 9).

    Args:
        vector: one direction for all rows [width], or one a row [batch, width].
        strength: in multiples of the vector; a number, or one a row [batch].
        renormalise: scale each changed token back to the norm that it had.
    """

    site: SiteLike
    vector: Rows
    scope: Scope = "response"
    strength: Number = 1.0
    renormalise: bool = False
    fingerprint: str | None = None

    def __post_init__(self) -> None:
        self._check()
        check_number("strength", self.strength)

    @property
    def tensors(self) -> dict[str, Tensor]:
        return {"vector": self.vector}

    @property
    def per_row(self) -> tuple[Tensor, ...]:
        return (*super().per_row, *_if_tensor(self.strength))

    @property
    def numbers(self) -> dict[str, Tensor]:
        return {"strength * vector": self.shift}

    @property
    def shift(self) -> Rows:
        """What is added."""
        if isinstance(self.strength, Tensor):
            return self.strength.to(self.vector)[:, None] * self.vector
        return self.strength * self.vector

    def change(self, hidden: Tensor) -> Tensor:
        changed = hidden + _spread(self.shift, hidden)
        if self.renormalise:
            # In float32: the square of a large activation overflows float16.
            norm, new_norm = (h.norm(dim=-1, keepdim=True, dtype=torch.float32) for h in (hidden, changed))
            changed = changed * (norm / new_norm.clamp_min(torch.finfo(torch.float32).tiny)).to(hidden)
        return changed


@dataclass(frozen=True, eq=False)
class Project(Formula):
    """Remove what the hidden state has along a direction: h - (h . u) u, with u the direction at unit length.

    Source: directional ablation, arXiv:2406.11717. The direction is [width] or [batch, width], of any length.
    """

    site: SiteLike
    direction: Rows
    scope: Scope = "response"
    fingerprint: str | None = None

    def __post_init__(self) -> None:
        self._check()
        if (self._length == 0).any():
            raise ValueError(f"The direction for {self.site} has length zero; there is nothing to remove along it.")

    @property
    def tensors(self) -> dict[str, Tensor]:
        return {"direction": self.direction}

    @property
    def numbers(self) -> dict[str, Tensor]:
        return {}  # it acts at unit length

    @property
    def _length(self) -> Tensor:
        """In float64: the square of a long direction overflows, that of a short one vanishes."""
        return self.direction.double().norm(dim=-1, keepdim=True)

    def change(self, hidden: Tensor) -> Tensor:
        unit = _spread(self.direction / self._length, hidden)
        return hidden - (hidden * unit).sum(dim=-1, keepdim=True) * unit


@dataclass(frozen=True, eq=False)
class Replace(Formula):
    """Put another hidden state in place: activation patching. `value` is [width] or [batch, width]."""

    site: SiteLike
    value: Rows
    scope: Scope = "last_prompt"
    fingerprint: str | None = None

    def __post_init__(self) -> None:
        self._check()

    @property
    def tensors(self) -> dict[str, Tensor]:
        return {"value": self.value}

    def change(self, hidden: Tensor) -> Tensor:
        return _spread(self.value, hidden).expand_as(hidden)


@dataclass(frozen=True, eq=False)
class Scale(Formula):
    """Multiply the hidden state by a factor, a number or one a row [batch]; 0 knocks a module's output out."""

    site: SiteLike
    factor: Number
    scope: Scope = "response"
    fingerprint: str | None = None

    def __post_init__(self) -> None:
        self._check()
        check_number("factor", self.factor)

    @property
    def numbers(self) -> dict[str, Tensor]:
        return {"factor": torch.as_tensor(self.factor, dtype=torch.float64)}

    @property
    def per_row(self) -> tuple[Tensor, ...]:
        return _if_tensor(self.factor)

    def change(self, hidden: Tensor) -> Tensor:
        if not isinstance(self.factor, Tensor):
            return hidden * self.factor
        return hidden * _spread(self.factor[:, None], hidden)


def _spread(rows: Tensor, hidden: Tensor) -> Tensor:
    """[width] as it is, [batch, width] as [batch, 1, width], in the hidden state's precision and on its device.

    Rows are repeated where generation expanded the batch, for beams or for several replies a prompt.
    """
    rows = rows.to(hidden)
    if rows.ndim == 1:
        return rows
    copies = len(hidden) // len(rows)
    return (rows if copies == 1 else rows.repeat_interleave(copies, dim=0))[:, None]


def _if_tensor(number: Number) -> tuple[Tensor, ...]:
    return (number,) if isinstance(number, Tensor) else ()

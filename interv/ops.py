"""Ops are plain values: where to act, on which tokens, with what. Each is a pure function of a hidden state."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from interv.op_values import Number, Rows, Tokens, check_finite, check_is_site, check_number, check_tokens
from interv.scope import Scope, check_scope
from interv.site import Site


@dataclass(frozen=True, eq=False)
class Capture:
    """Read the hidden state at a site.

    Args:
        site: where to read.
        tokens: "last_prompt" gives [batch, width]; an index gives [batch, width] too and counts within each row's
            prompt, padding left out, so 0 is its first token and -1 its last; a LongTensor [batch, k] of such
            indices gives [batch, k, width]; any other scope gives a list with one [tokens, width] a row.

    A capture that stands before an edit at its site in the list of ops reads the value before it, after it the
    changed one.
    """

    site: Site
    tokens: Tokens = "last_prompt"

    def __post_init__(self) -> None:
        check_is_site(self.site)
        check_tokens(self.tokens)

    @property
    def scope(self) -> Scope:
        return self.tokens if isinstance(self.tokens, str) else "prompt"


class Edit(ABC):
    """An op that changes the hidden state of the scope's tokens and leaves all others exactly as they are.

    Attributes:
        site: where to act.
        scope: "response" is the last prompt token, which decides the first token of the reply, and every generated
            token; "generated" leaves out the last prompt token; "all" is every prompt and every generated token.
        fingerprint: of the model that the op's tensors were captured from; another model then refuses the op.
    """

    site: Site
    scope: Scope
    fingerprint: str | None

    @abstractmethod
    def change(self, hidden: Tensor) -> Tensor:
        """The new hidden state, as if every token lay in the scope. Never edits in place: captures may alias it."""

    @property
    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """What the op brings along, by name: its last axis is the site's width."""

    @property
    def numbers(self) -> dict[str, Tensor]:
        """What meets the hidden state, by name: it must be finite in the model's precision."""
        return self.tensors

    @property
    def per_row(self) -> tuple[Tensor, ...]:
        """Those of the op's tensors that have one entry a row."""
        return tuple(tensor for tensor in self.tensors.values() if tensor.ndim == 2)

    @property
    def rows(self) -> int | None:
        """The number of rows that the op is made for, None where it serves any."""
        sizes = {len(tensor) for tensor in self.per_row}
        if len(sizes) > 1:
            raise ValueError(f"The op at {self.site} has entries for {sorted(sizes)} rows; give one of each a row.")
        return sizes.pop() if sizes else None

    def __call__(self, hidden: Tensor, where: Bool[Tensor, "batch seq"] | None) -> Tensor:
        """The changed hidden state; `where` None means every position."""
        for name, tensor in self.tensors.items():
            if tensor.shape[-1] != hidden.shape[-1]:
                raise ValueError(
                    f"The {name} for {self.site} has width {tensor.shape[-1]}; there the hidden state has "
                    f"{hidden.shape[-1]}. Capture it at the same site."
                )
        changed = self.change(hidden)
        return changed if where is None else torch.where(where[..., None], changed, hidden)

    def _check(self) -> None:
        check_is_site(self.site)
        check_scope(self.scope)
        for name, tensor in self.tensors.items():
            check_finite(name, tensor, "[width] or [batch, width]", dimensions=(1, 2))


@dataclass(frozen=True, eq=False)
class Add(Edit):
    """Add `strength * vector` to the hidden state of the scope's tokens (arXiv:2508.12815, Eq. 9).

    Args:
        vector: one direction for all rows [width], or one a row [batch, width].
        strength: in multiples of the vector; a number, or one a row [batch].
        renormalise: scale each changed token back to the norm that it had.
    """

    site: Site
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
class Project(Edit):
    """Remove what the hidden state has along a direction: h - (h . u) u, with u the direction at unit length.

    Source: directional ablation, arXiv:2406.11717. The direction is [width] or [batch, width], of any length.
    """

    site: Site
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
class Replace(Edit):
    """Put another hidden state in place: activation patching. `value` is [width] or [batch, width]."""

    site: Site
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
class Scale(Edit):
    """Multiply the hidden state by a factor, a number or one a row [batch]; 0 knocks a module's output out."""

    site: Site
    factor: Number
    scope: Scope = "response"
    fingerprint: str | None = None

    def __post_init__(self) -> None:
        self._check()
        check_number("factor", self.factor)

    @property
    def tensors(self) -> dict[str, Tensor]:
        return {}

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


Op = Capture | Edit


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

"""Ops are plain values: where to act, on which tokens, with what. Each is a pure function of a hidden state."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interv.scope import Scope, check_scope
from interv.site import Site

Tokens = Scope | int | Int[Tensor, "batch k"]


@dataclass(frozen=True, eq=False)
class Capture:
    """Read the hidden state at a site.

    Args:
        site: where to read.
        tokens: "last_prompt" gives [batch, width]; an index gives [batch, width] too and counts within each row's
            prompt, padding left out, so 0 is its first token and -1 its last; a LongTensor [batch, k] of such
            indices gives [batch, k, width]; any other scope gives a list with one [tokens, width] a row.

    A capture that stands before an `Add` at its site in the list of ops reads the unsteered value, after it the
    steered one.
    """

    site: Site
    tokens: Tokens = "last_prompt"

    def __post_init__(self) -> None:
        _check_site(self.site)
        if isinstance(self.tokens, str):
            check_scope(self.tokens)

    @property
    def scope(self) -> Scope:
        return self.tokens if isinstance(self.tokens, str) else "prompt"


@dataclass(frozen=True, eq=False)
class Add:
    """Add `strength * vector` to the hidden state of the scope's tokens (arXiv:2508.12815, Eq. 9).

    Args:
        site: where to add.
        vector: one direction for all rows [width], or one a row [batch, width].
        scope: "response" is the last prompt token, which decides the first token of the reply, and every generated
            token; "generated" leaves out the last prompt token; "all" is every prompt and every generated token.
        strength: in multiples of the vector; a number, or one a row [batch].
        renormalise: scale each changed token back to the norm that it had.
        fingerprint: of the model that the vector was captured from; another model then refuses it.
    """

    site: Site
    vector: Float[Tensor, " width"] | Float[Tensor, "batch width"]
    scope: Scope = "response"
    strength: float | int | Float[Tensor, " batch"] = 1.0
    renormalise: bool = False
    fingerprint: str | None = None

    def __post_init__(self) -> None:
        _check_site(self.site)
        check_scope(self.scope)
        _check_finite("vector", self.vector, dimensions=(1, 2))
        if isinstance(self.strength, Tensor):
            _check_finite("strength", self.strength, dimensions=(1,))
        elif not torch.isfinite(torch.tensor(float(self.strength))):
            raise ValueError(f"strength is {self.strength}; it must be a finite number.")

    @property
    def rows(self) -> int | None:
        """The number of rows that the op is made for, None where it serves any."""
        sizes = {len(self.vector)} if self.vector.ndim == 2 else set()
        if isinstance(self.strength, Tensor):
            sizes.add(len(self.strength))
        if len(sizes) > 1:
            raise ValueError(f"An Add has vectors and strengths for {sorted(sizes)} rows; give one of each a row.")
        return sizes.pop() if sizes else None

    def __call__(self, hidden: Tensor, where: Bool[Tensor, "batch seq"] | None) -> Tensor:
        """The changed hidden state; `where` None means every position, for sites that see no tokens."""
        if self.vector.shape[-1] != hidden.shape[-1]:
            raise ValueError(
                f"The vector for {self.site} has width {self.vector.shape[-1]}; there the hidden state has "
                f"{hidden.shape[-1]}. Capture the vector at the same site."
            )
        shift = self._shift(len(hidden)).to(hidden)
        changed = hidden + shift
        if self.renormalise:
            norm = hidden.norm(dim=-1, keepdim=True)
            changed = changed * (norm / changed.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(hidden.dtype).tiny))
        return changed if where is None else torch.where(where[..., None], changed, hidden)

    def _shift(self, batch: int) -> Tensor:
        """strength * vector as [width] or [batch, 1, width]; rows are repeated where generation expanded the batch."""
        strength, vector = self.strength, self.vector
        if isinstance(strength, Tensor):
            strength = strength.to(vector)[:, None]
        shift = strength * vector
        if shift.ndim == 1:
            return shift
        return shift.repeat_interleave(batch // len(shift), dim=0)[:, None] if batch != len(shift) else shift[:, None]


Op = Capture | Add


def _check_site(site: Site) -> None:
    if not isinstance(site, Site):
        raise TypeError(f"An op needs a Site, not {site!r}: write Site(14) or Site.parse('blocks.14.hook_resid_post').")


def _check_finite(name: str, tensor: Tensor, dimensions: tuple[int, ...]) -> None:
    if not isinstance(tensor, Tensor) or not tensor.is_floating_point() or tensor.ndim not in dimensions:
        came = f"{tensor.dtype} {list(tensor.shape)}" if isinstance(tensor, Tensor) else repr(tensor)
        fits = "[width] or [batch, width]" if name == "vector" else "a number or [batch]"
        raise ValueError(f"{name} is {came}; it must be a floating-point tensor, {fits}.")
    if tensor.device.type == "meta":
        raise ValueError(f"{name} is on the meta device and holds no numbers; load it on the model's device.")
    if not torch.isfinite(tensor).all():
        raise ValueError(f"{name} holds NaN or infinite numbers; a model steered with it would say nothing.")

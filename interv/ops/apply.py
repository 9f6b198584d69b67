"""A function of one's own at a site."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from interv.ops.op import Edit
from interv.ops.values import described
from interv.places.scope import Scope, Step
from interv.places.site import Site, SiteLike

_KINDS = ("prompt", "image", "last_prompt", "generated")


@dataclass(frozen=True)
class Here:
    """What the function of an `Apply` may know about the tokens that it is given.

    Attributes:
        site: the op's.
        row: of the batch that the model runs; None among image patches, which are of no prompt.
        step: how many tokens of the reply were there before: 0 in the prompt, k where the k-th generated token is fed
            back. Always 0 among image patches.
        inside: which of the tokens lie in the scope; all of them unless `every` asked for the others too.
        kinds: which of the tokens are of the "prompt", of an "image", the "last_prompt" token, "generated".
    """

    site: Site
    row: int | None
    step: int
    inside: Bool[Tensor, " tokens"] | None
    kinds: Mapping[str, Bool[Tensor, " tokens"]]


@dataclass(frozen=True, eq=False)
class Apply(Edit):
    """Put `function(hidden, here)` in the place of the hidden state of the scope's tokens.

    Args:
        function: is called for one row at a time with its tokens' hidden state, [tokens, width], and a `Here`, and
            gives a tensor of the same shape, dtype and device back. The one that it is given is its own to change.
        every: the function is given all tokens of the row that run now, without padding; what it gives back for
            tokens outside the scope is not used.

    In a vision tower the function is called once, with the whole hidden state of the image patches.

    Raises ValueError, while the model runs, where the function gives back anything else, NaN, or infinite numbers.
    """

    site: SiteLike
    function: Callable[[Tensor, Here], Tensor]
    scope: Scope = "response"
    every: bool = False
    fingerprint: str | None = None

    def __post_init__(self) -> None:
        self._check()
        if not callable(self.function):
            raise TypeError(f"The function for {self.site} is {described(self.function)}; it must be callable.")

    def __call__(self, hidden: Tensor, where: Bool[Tensor, "batch seq"] | None, step: Step | None = None) -> Tensor:
        if step is None:
            return checked(self, self.function(hidden.clone(), Here(self.site, None, 0, None, {})), hidden)
        copies, length = len(hidden) // len(step.prompt), hidden.shape[1]
        changed = hidden.clone()
        for row in range(len(hidden)):
            kinds = {kind: getattr(step, kind)[row // copies, -length:] for kind in _KINDS}
            running = kinds["prompt"] | kinds["last_prompt"] | kinds["generated"]
            inside = running if where is None else where[row]
            if not inside.any():
                continue
            given = running if self.every else inside
            here = Here(self.site, row, step.number, inside[given], {kind: of[given] for kind, of in kinds.items()})
            state = hidden[row, given]  # a copy: the mask picks rows
            new = checked(self, self.function(state.clone(), here), state)
            changed[row, inside] = new[here.inside]
        return changed


def checked(op: Edit, new: Any, given: Tensor) -> Tensor:
    """What a function gave back. Raises ValueError where that cannot take the place of what it was given."""
    kind = type(op).__name__
    if not isinstance(new, Tensor) or (new.shape, new.dtype, new.device) != (given.shape, given.dtype, given.device):
        raise ValueError(
            f"The function of {kind} at {op.site} gave back {described(new)} and was given {described(given)}; give "
            f"back a tensor of that shape and dtype, on {given.device}."
        )
    if not torch.isfinite(new).all():
        raise ValueError(f"The function of {kind} at {op.site} gave back NaN or infinite numbers.")
    return new

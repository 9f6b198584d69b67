"""Which tokens an op touches, worked out for one forward of the model at a time."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from interv.places.columns import Columns

Scope = Literal["all", "prompt", "image", "last_prompt", "generated", "response"]
SCOPES: tuple[str, ...] = get_args(Scope)
PROMPT_SCOPES = frozenset({"all", "prompt", "image"})  # these reach tokens before the last one of the prompt

# The kinds of token that a scope is made of.
_KINDS: dict[str, tuple[str, ...]] = {
    "all": ("prompt", "generated"),
    "prompt": ("prompt",),
    "image": ("image",),
    "last_prompt": ("last_prompt",),
    "generated": ("generated",),
    "response": ("last_prompt", "generated"),
}


@dataclass(frozen=True)
class Step:
    """The tokens of one forward: what kind of token stands in each row and position. Padding is of no kind.

    `kinds` names the kinds of which there may be a token, so that a step is skipped without asking the device;
    `alike` tells that every token is of all of them, `number` how many tokens of the reply came before this forward.
    `columns` are what its tokens may attend to, where an op asks for that.
    """

    prompt: Bool[Tensor, "batch seq"]
    image: Bool[Tensor, "batch seq"]
    last_prompt: Bool[Tensor, "batch seq"]
    generated: Bool[Tensor, "batch seq"]
    kinds: frozenset[str]
    alike: bool = False
    number: int = 0
    columns: Columns | None = None

    def holds(self, scope: Scope) -> bool:
        """Whether a token of this forward may lie in the scope."""
        return not self.kinds.isdisjoint(_KINDS[scope])

    def where(self, scope: Scope) -> Bool[Tensor, "batch seq"]:
        """The tokens of this forward that lie in the scope."""
        if self.alike and self.holds(scope):
            return next(getattr(self, kind) for kind in _KINDS[scope] if kind in self.kinds)
        first, *others = (getattr(self, kind) for kind in _KINDS[scope])
        return first | others[0] if others else first

    def only(self, index: Int[Tensor, " index"]) -> "Step":
        """The tokens at these positions alone."""
        kinds = ("prompt", "image", "last_prompt", "generated")
        return replace(self, **{kind: getattr(self, kind)[:, index] for kind in kinds})

    @classmethod
    def of_prompt(
        cls, mask: Int[Tensor, "batch seq"], image: Bool[Tensor, "batch seq"], *, last: bool = True
    ) -> "Step":
        """A whole prompt, padded on either side; `mask` is 1 on its tokens, `image` is True on image tokens.

        With last=False its last token is of no kind: it will run once more, in a step of its own.
        """
        prompt, none = mask.bool(), torch.zeros_like(mask, dtype=torch.bool)
        final = torch.arange(mask.shape[1], device=mask.device)[None] == last_position(mask)[:, None]
        if not last:
            prompt, final = prompt & ~final, none
        kinds = {"prompt", "last_prompt"} if last else {"prompt"}
        image = image & prompt
        return cls(prompt, image, final, none, frozenset(kinds | ({"image"} if image.any() else set())))

    @classmethod
    def of_token(cls, batch: int, device: torch.device, *, generated: bool) -> "Step":
        """A single token a row: the last one of the prompt, or a generated one."""
        yes, no = (torch.full((batch, 1), value, device=device) for value in (True, False))
        if generated:
            return cls(no, no, no, yes, frozenset({"generated"}), alike=True)
        return cls(yes, no, yes, no, frozenset({"prompt", "last_prompt"}), alike=True)


def last_position(mask: Int[Tensor, "batch seq"] | Bool[Tensor, "batch seq"]) -> Int[Tensor, " batch"]:
    """The index of the last token that is not padding."""
    positions = torch.arange(mask.shape[1], device=mask.device)
    return torch.where(mask.bool(), positions, -1).amax(dim=1)


def check_scope(scope: str) -> None:
    if scope not in SCOPES:
        raise ValueError(f"{scope!r} is no scope; the scopes are {', '.join(SCOPES)}.")

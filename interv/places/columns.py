"""What a token attends to, told apart by kind: the columns of attention."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Int
from torch import Tensor

ColumnKind = Literal["all", "image", "text", "before_image", "after_image", "reply"]
COLUMN_KINDS: tuple[str, ...] = get_args(ColumnKind)
BY_IMAGE = frozenset({"image", "before_image", "after_image"})  # a row without an image has none of these


@dataclass(frozen=True, eq=False)
class PromptColumns:
    """The prompts of a batch as columns: `mask` is 1 on tokens, `image` is True on image tokens, of one image or more.

    "before_image" ends at the row's first image token and "after_image" begins behind its last one; text between two
    images is "text" alone. Padding is of no kind.
    """

    mask: Int[Tensor, "batch prompt"] | Bool[Tensor, "batch prompt"]
    image: Bool[Tensor, "batch prompt"]

    @cached_property
    def kinds(self) -> dict[str, Bool[Tensor, "batch prompt"]]:
        """By kind, the columns of the prompt."""
        prompt = self.mask.bool()
        image, shown = self.image & prompt, self._shown[:, None]
        return {
            "all": prompt,
            "image": image,
            "text": prompt & ~image,
            "before_image": prompt & (image.cumsum(1) == 0) & shown,
            "after_image": prompt & (image.flip(1).cumsum(1).flip(1) == 0) & shown,
            "reply": torch.zeros_like(prompt),
        }

    @cached_property
    def behind(self) -> dict[str, Bool[Tensor, " batch"]]:
        """By kind, the rows whose reply is of it."""
        every = torch.ones_like(self._shown)
        replied = {"all": every, "text": every, "reply": every, "after_image": self._shown}
        return {kind: replied.get(kind, ~every) for kind in COLUMN_KINDS}

    @cached_property
    def _shown(self) -> Bool[Tensor, " batch"]:
        return (self.image & self.mask.bool()).any(1)


@dataclass(frozen=True, eq=False)
class Columns:
    """The columns of one forward: the prompt's, then the reply's so far. `seen` counts both, padding too."""

    prompt: PromptColumns
    seen: int
    _made: dict[tuple[str, int], Tensor] = field(default_factory=dict, init=False, repr=False)

    def of(self, kind: ColumnKind, width: int) -> Bool[Tensor, "batch {width}"]:
        """The columns of a kind among the `width` that a block attends to; made once for all blocks that ask."""
        if (kind, width) not in self._made:
            prompt = self.prompt.kinds[kind][:, : self.seen]
            reply = self.prompt.behind[kind][:, None].expand(-1, self.seen - prompt.shape[1])
            self._made[kind, width] = in_block(torch.cat([prompt, reply], dim=1), width, False)
        return self._made[kind, width]


def in_block(values: Tensor, width: int, fill: float | bool) -> Tensor:
    """Columns, oldest first, as the `width` that a block attends to.

    A block that attends in a window is given the newest ones; a cache of fixed size has room behind them.
    """
    seen = values.shape[-1]
    if width <= seen:
        return values[..., seen - width :]
    return torch.nn.functional.pad(values, (0, width - seen), value=fill)


def from_block(values: Tensor, seen: int, fill: float) -> Tensor:
    """A block's columns as all those `seen`, with `fill` where the block does not attend."""
    width = values.shape[-1]
    if width >= seen:
        return values[..., :seen]
    return torch.nn.functional.pad(values, (seen - width, 0), value=fill)


def check_columns(kind: str) -> None:
    if kind not in COLUMN_KINDS:
        raise ValueError(f"{kind!r} is no kind of column; the kinds are {', '.join(COLUMN_KINDS)}.")

"""What the laws are tested on: plain values that print as the code that makes them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from interv import SCOPES, VLM, Add, Apply, Here, Prompt, Replies
from interv.ops.edits import Project, Replace, Scale
from interv.ops.op import Op
from tests.property.places import HEAD_PLACES, HOOK_PLACES, IMAGE_PLACES, PLACES, TOKEN_PLACES, Place


@dataclass(frozen=True)
class Ask:
    """A prompt: its question, the width and height of each image, whose pixels are noise, and a forced answer."""

    question: str = "what?"
    sizes: tuple[tuple[int, int], ...] = ((28, 28),)
    seed: int = 0
    answer: str = ""

    def images(self) -> list[Image.Image]:
        rng = np.random.default_rng(self.seed)
        return [Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in self.sizes]

    def prompt(self) -> Prompt:
        return Prompt(self.images() or None, self.question, self.answer)


@dataclass(frozen=True)
class Push:
    """An op that fits any model and any number of rows: the numbers are drawn when both are known.

    Attributes:
        kind: "add", "renormalise", "project", "replace" or "scale"; "apply" is a function that adds.
        rowwise: whether each row has its own vector, and its own strength.
    """

    place: str = "hook_resid_post"
    layer: int = 1
    scope: str = "response"
    kind: str = "add"
    strength: float = 1.0
    rowwise: tuple[bool, bool] = (False, False)
    seed: int = 0

    def where(self, vlm: VLM) -> Place:
        return PLACES[self.place](vlm, self.layer % vlm.n_layers)

    def vector(self, vlm: VLM, rows: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        shape = (rows, self.where(vlm).width) if self.rowwise[0] else (self.where(vlm).width,)
        return torch.randn(shape, generator=generator)

    def number(self, rows: int) -> float | Tensor:
        return self.strength * (1 + torch.arange(rows) / 4) if self.rowwise[1] else self.strength

    def op(self, vlm: VLM, rows: int) -> Any:
        site, vector, number = self.where(vlm).site, self.vector(vlm, rows), self.number(rows)
        match self.kind:
            case "project":
                return Project(site, vector, self.scope)
            case "replace":
                return Replace(site, vector, self.scope)
            case "scale":
                return Scale(site, number, self.scope)
            case "apply":
                return Apply(site, adding(vector, number), self.scope, every=self.seed % 2 == 1)
            case _:
                return Add(site, vector, self.scope, number, renormalise=self.kind == "renormalise")

    def alone(self, vlm: VLM, row: int, rows: int) -> Any:
        """The op for this row as a batch of its own."""
        op, chosen = self.op(vlm, rows), slice(row, row + 1)
        if isinstance(op, Apply):
            return replace(op, function=adding(self.vector(vlm, rows), self.number(rows), row))
        changes = {
            name: value[chosen] for name, value in vars(op).items() if name in _PER_ROW and _per_row(value, name)
        }
        return replace(op, **changes)

    def by_hand(self, vlm: VLM, row: int, rows: int, hidden: Tensor) -> Tensor:
        """The formula of the op for one row, `[tokens, width]`, every token changed."""
        vector, number = self.vector(vlm, rows), self.number(rows)
        vector = (vector[row] if vector.ndim == 2 else vector).to(hidden)
        number = float(number[row] if isinstance(number, Tensor) else number)
        match self.kind:
            case "project":
                return hidden - torch.outer(hidden @ vector, vector) / (vector @ vector)
            case "replace":
                return vector.expand_as(hidden)
            case "scale":
                return number * hidden
            case "renormalise":
                changed = hidden + number * vector
                return changed * hidden.norm(dim=-1, keepdim=True) / changed.norm(dim=-1, keepdim=True)
            case _:
                return hidden + number * vector


@dataclass(frozen=True)
class Case:
    """A batch and what is done to it."""

    asks: tuple[Ask, ...] = (Ask(), Ask("and this one?", ((56, 28),), 1))
    pushes: tuple[Push, ...] = (Push(),)
    tokens: int = 4

    def prompts(self) -> list[Prompt]:
        return [ask.prompt() for ask in self.asks]

    def ops(self, vlm: VLM) -> list[Op]:
        return [push.op(vlm, len(self.asks)) for push in self.pushes]

    def row(self, row: int) -> "Case":
        return replace(self, asks=self.asks[row : row + 1])

    def answer(self, vlm: VLM, ops: Sequence[Op] | None = None, **options: Any) -> Replies:
        """The steered replies with their logits; every row is as long as it may be, whatever the model says."""
        chosen = self.ops(vlm) if ops is None else ops
        return vlm.generate(
            self.prompts(), chosen, max_new_tokens=self.tokens, logits=True, **{"eos_token_id": [], **options}
        )


def adding(vector: Tensor, number: float | Tensor, first: int = 0) -> Callable[[Tensor, Here], Tensor]:
    """A function that adds the vector and the number of its row, when the batch begins with row `first`."""

    def add(hidden: Tensor, here: Here) -> Tensor:
        row = first + (here.row or 0)
        own = vector[row] if vector.ndim == 2 else vector
        return hidden + (float(number[row]) if isinstance(number, Tensor) else number) * own.to(hidden)

    return add


_PER_ROW = ("vector", "direction", "value", "strength", "factor")


def _per_row(value: Any, name: str) -> bool:
    return isinstance(value, Tensor) and value.ndim == (1 if name in ("strength", "factor") else 2)


_IDLE = ("output head", "image")
SIDES = st.sampled_from((28, 40, 56, 84))


def asks(images: tuple[int, int] = (0, 2)) -> st.SearchStrategy[Ask]:
    """Questions of 1 to 14 tokens with so many images, of all sizes."""
    sizes = st.lists(st.tuples(SIDES, SIDES), min_size=images[0], max_size=images[1]).map(tuple)
    question = st.text("abcdefgh ?", min_size=1, max_size=14)
    return st.builds(Ask, question, sizes, st.integers(0, 99), st.sampled_from(("", "", "yes")))


def pushes(
    places: tuple[str, ...] = TOKEN_PLACES, scopes: tuple[str, ...] = SCOPES, kinds: tuple[str, ...] = ("add",)
) -> st.SearchStrategy[Push]:
    strengths = st.sampled_from((-2.0, 0.5, 1.0, 3.0))
    rowwise = st.tuples(st.booleans(), st.booleans())
    drawn = st.builds(
        Push,
        st.sampled_from(places),
        st.integers(0, 7),
        st.sampled_from(scopes),
        st.sampled_from(kinds),
        strengths,
        rowwise,
        st.integers(0, 99),
    )
    # The output head is given no image token in a generate that keeps the last logits only.
    return drawn.map(lambda push: replace(push, scope="response") if (push.place, push.scope) == _IDLE else push)


def image_pushes() -> st.SearchStrategy[Push]:
    """Ops where image patches are: one vector for all, everywhere."""
    strengths = st.sampled_from((-2.0, 0.5, 3.0))
    return st.builds(Push, st.sampled_from(IMAGE_PLACES), scope=st.just("all"), strength=strengths)


@st.composite
def cases(
    draw: st.DrawFn,
    rows: tuple[int, int] = (1, 3),
    ops: tuple[int, int] = (1, 3),
    scopes: tuple[str, ...] = SCOPES,
    places: tuple[str, ...] = TOKEN_PLACES,
    kinds: tuple[str, ...] = ("add", "add", "apply", "renormalise", "project", "replace", "scale"),
    with_images: bool | None = None,
    tokens: tuple[int, int] = (2, 4),
) -> Case:
    """Batches of mixed prompts and several ops. Ops on image tokens come with images in every prompt."""
    if with_images is None:
        with_images = draw(st.booleans())
    usable = scopes if with_images else tuple(scope for scope in scopes if scope != "image")
    any_op = pushes(places, usable, kinds)
    if with_images and set(scopes) == set(SCOPES) and places == TOKEN_PLACES:
        any_op = st.one_of(any_op, any_op, any_op, image_pushes())
    return Case(
        tuple(draw(st.lists(asks((1, 2) if with_images else (0, 2)), min_size=rows[0], max_size=rows[1]))),
        tuple(draw(st.lists(any_op, min_size=ops[0], max_size=ops[1]))),
        draw(st.integers(*tokens)),
    )


__all__ = ["HEAD_PLACES", "HOOK_PLACES", "Ask", "Case", "Push", "asks", "cases", "pushes"]

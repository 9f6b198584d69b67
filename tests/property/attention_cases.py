"""What the law of attention is tested on: edits inside attention as plain values, and each edit's formula by hand."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from interv import COLUMN_KINDS, VLM, Boost, Drop, Site
from tests.property.cases import Ask, asks

RESPONSE = ("response", "generated", "last_prompt")


@dataclass(frozen=True)
class Pull:
    """An edit inside attention that fits any model.

    Attributes:
        kind: "boost", "drop", "gate" (with a threshold) or "share" (renormalised).
        rowwise: whether each row has its own strength.
    """

    kind: str = "boost"
    columns: str = "image"
    layer: int = 1
    heads: tuple[int, ...] | None = None
    scope: str = "response"
    strength: float = 0.5
    rowwise: bool = False
    threshold: float = 0.3

    def number(self, rows: int) -> float | Tensor:
        return self.strength * (1 + torch.arange(rows) / 4) if self.rowwise else self.strength

    def op(self, vlm: VLM, rows: int) -> Any:
        layer, number = self.layer % vlm.n_layers, self.number(rows)
        if self.kind == "boost":
            return Boost(Site(layer, "hook_attn_scores"), number, self.columns, self.heads, self.scope)
        return Drop(
            Site(layer, "hook_pattern"),
            self.columns,
            self.heads,
            threshold=self.threshold if self.kind == "gate" else None,
            renormalise=self.kind == "share",
            strength=number,
            scope=self.scope,
        )

    def alone(self, row: int, rows: int) -> "Pull":
        """The same for this row as a batch of its own."""
        number = self.number(rows)
        return replace(self, strength=float(number[row] if isinstance(number, Tensor) else number), rowwise=False)

    def holds(self, head: int) -> bool:
        return self.heads is None or head in self.heads

    def by_hand(self, values: Tensor, columns: list[int]) -> tuple[Tensor, int]:
        """One query's scores or weights in one head, edited at these columns; and whether that happened."""
        new, old = values.clone(), values[columns]
        if self.kind == "gate" and float(old.float().sum()) < self.threshold:
            return new, 0
        new[columns] = old + self.strength * old.abs() if self.kind == "boost" else old * (1 - self.strength)
        if self.kind == "share" and float(new.sum()) > 0:
            new = new / new.sum()
        return new, 1


@dataclass(frozen=True)
class Scene:
    """A batch and the edits inside attention that it runs with."""

    asks: tuple[Ask, ...] = (Ask("what is it?", ((28, 28),), 0), Ask("hm", ((84, 84), (28, 56)), 1))
    pulls: tuple[Pull, ...] = (Pull(),)
    tokens: int = 3

    def prompts(self) -> list[Any]:
        return [ask.prompt() for ask in self.asks]

    def ops(self, vlm: VLM) -> list[Any]:
        return [pull.op(vlm, len(self.asks)) for pull in self.pulls]

    def answer(self, vlm: VLM, ops: list[Any] | None = None, **options: Any) -> Any:
        chosen = self.ops(vlm) if ops is None else ops
        settings = {"max_new_tokens": self.tokens, "logits": True, "eos_token_id": [], **options}
        return vlm.generate(self.prompts(), chosen, **settings)

    def alone(self, row: int) -> "Scene":
        pulls = tuple(pull.alone(row, len(self.asks)) for pull in self.pulls)
        return replace(self, asks=self.asks[row : row + 1], pulls=pulls)


def own_columns(kind: str, image: list[bool], prompt: int) -> list[int]:
    """The columns of a kind of one unpadded row, whose first `prompt` tokens are the prompt."""
    shown = [place for place in range(prompt) if image[place]]
    first, last = (shown[0], shown[-1]) if shown else (0, len(image))
    return {
        "all": list(range(len(image))),
        "image": shown,
        "text": [place for place in range(len(image)) if place not in shown],
        "before_image": list(range(first)),
        "after_image": list(range(last + 1, len(image))),
        "reply": list(range(prompt, len(image))),
    }[kind]


def pulls(
    scopes: tuple[str, ...] = ("response", "generated", "last_prompt", "all", "prompt", "image"),
    kinds: tuple[str, ...] = ("boost", "boost", "drop", "gate", "share"),
) -> st.SearchStrategy[Pull]:
    heads = st.one_of(st.none(), st.sets(st.integers(0, 3), min_size=1, max_size=2).map(lambda x: tuple(sorted(x))))
    # A column of the reply exists from the second generated token on, and no prompt has one.
    reply = st.builds(
        Pull, st.sampled_from(kinds), st.just("reply"), st.integers(0, 7), heads, st.sampled_from(("response", "all"))
    )
    kept = tuple(kind for kind in COLUMN_KINDS if kind != "reply")
    drawn = st.builds(
        Pull,
        st.sampled_from(kinds),
        st.sampled_from((*kept, "image", "after_image")),
        st.integers(0, 7),
        heads,
        st.sampled_from(scopes),
        st.sampled_from((0.5, 1.0, 2.0)),
        st.booleans(),
        st.sampled_from((0.05, 0.3, 0.6)),
    )
    return st.one_of(drawn, drawn, drawn, drawn, reply) if set(scopes) & {"response", "all"} else drawn


@st.composite
def scenes(
    draw: st.DrawFn,
    rows: tuple[int, int] = (1, 3),
    edits: tuple[int, int] = (1, 3),
    scopes: tuple[str, ...] = ("response", "generated", "last_prompt", "all", "prompt", "image"),
    kinds: tuple[str, ...] = ("boost", "boost", "drop", "gate", "share"),
) -> Scene:
    """Batches of prompts with images, of mixed lengths."""
    return Scene(
        tuple(draw(st.lists(asks((1, 2)), min_size=rows[0], max_size=rows[1]))),
        tuple(draw(st.lists(pulls(scopes, kinds), min_size=edits[0], max_size=edits[1]))),
        draw(st.integers(2, 3)),
    )

"""Some heads cause mistakes by listening to the text: where they do, their attention to it is taken away."""

from dataclasses import dataclass

import torch

from interv import Drop, Site
from methods.attribution import Attribution
from methods.steerer import Fitted, Query, Strength, check_reply_scope


@dataclass(frozen=True, eq=False)
class ADHH(Fitted):
    """Sets the weights of text behind the image to zero where, in a chosen head, they sum to the threshold or more.

    Source: AD-HH (Yang et al., ICLR 2025, OpenReview Bjq4W7P2Us), and its published code. Nothing is scaled up for
    what is dropped. The threshold is `threshold` / strength: strength 1 is the published one, a greater strength acts
    more often, 0 never. Prompts without an image are refused.

    Attributes:
        heads: (block, head), the most harmful first.
        threshold: at strength 1.
    """

    heads: tuple[tuple[int, int], ...]
    threshold: float = 0.4  # published code, LLaVA

    def __post_init__(self) -> None:
        """Raises ValueError where there is no head, or for a scope that reaches into the prompt."""
        if not self.heads:
            raise ValueError("There are no heads; give at least one, as (block, head).")
        check_reply_scope(self)

    @classmethod
    def fit(cls, train: Attribution, *, share: float = 0.02, threshold: float = 0.4) -> "ADHH":
        """The heads that push mistakes most; `share` of all heads, at least one. Published: 20 of LLaVA's 1,024."""
        return cls._of(train, train.top(share), threshold)

    @classmethod
    def _of(cls, train: Attribution, heads: list[tuple[int, int]], threshold: float) -> "ADHH":
        first = heads[0][0]
        return cls(first, first, train.fingerprint, tuple(heads), threshold)

    def ops(self, query: Query, strength: Strength = 1.0) -> tuple[Drop, ...]:
        """Raises ValueError for a negative strength."""
        strengths = torch.as_tensor(strength, dtype=torch.float32)
        if (strengths < 0).any():
            raise ValueError(
                f"ADHH's strength is {float(strengths.min())}; it takes attention away and has no opposite."
            )
        drops = []
        for value in sorted({*strengths.flatten().tolist()} - {0.0}):  # a threshold is one number for all rows
            rows = 1.0 if strengths.ndim == 0 else (strengths == value).float()
            for block in dict.fromkeys(block for block, _ in self.heads):
                chosen = tuple(head for own, head in self.heads if own == block)
                drops.append(
                    Drop(
                        Site(block, "hook_pattern"),
                        "after_image",
                        chosen,
                        self.threshold / value,
                        strength=rows,
                        scope=self.scope,
                        fingerprint=self.fingerprint or None,
                    )
                )
        return tuple(drops)


class RandomHeads(ADHH):
    """AD-HH with as many heads drawn at random: the paper's control."""

    @classmethod
    def fit(cls, train: Attribution, *, share: float = 0.02, threshold: float = 0.4, seed: int = 0) -> "RandomHeads":
        return cls._of(train, train.drawn(share, seed), threshold)  # type: ignore[return-value]

"""Inference-time intervention: the heads that know the answer best are pushed along what they know."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interv import Add, Site
from methods.head_contrasts import HeadContrasts
from methods.probes import probe_accuracy
from methods.steerer import Fitted, Query, Strength, check_reply_scope

HELD_OUT = 5  # every fifth pair decides between heads where there are no validation pairs; paper: 20%


@dataclass(frozen=True, eq=False)
class ITI(Fitted):
    """Adds alpha * sigma * u to the outputs z of some heads, at the last prompt token and at every generated one.

    Source: ITI, arXiv:2306.03341: u is the unit difference of the means ("center of mass"), sigma the standard
    deviation of the projections on it. alpha = `alpha` * strength, so strength 1 is the paper's.

    Attributes:
        shifts: sigma * u in the columns of the chosen heads, zero in those of the others.
        blocks: where, in the order of the shifts.
        heads: (block, head), the best first.
    """

    shifts: Float[Tensor, "blocks width"]
    blocks: tuple[int, ...]
    heads: tuple[tuple[int, int], ...]
    alpha: float = 15.0  # paper, LLaMA-7B

    def __post_init__(self) -> None:
        """Raises ValueError for a scope that reaches into the prompt."""
        check_reply_scope(self)

    @classmethod
    def fit(
        cls,
        train: HeadContrasts,
        *,
        validation: HeadContrasts | None = None,
        share: float = 0.05,  # paper: 48 of 1,024
        alpha: float = 15.0,
    ) -> "ITI":
        """The share of heads whose probes do best on pairs that they were not fitted on; at least one."""
        fitted, judged = (train, validation) if validation is not None else _parted(train)
        accuracy = probe_accuracy(fitted.positive, fitted.negative, judged.positive, judged.negative)
        _, layers, heads, width = train.positive.shape
        count = max(1, round(share * layers * heads))
        order = accuracy.flatten().sort(descending=True, stable=True).indices[:count]
        chosen = [divmod(place, heads) for place in order.tolist()]
        blocks = tuple(sorted({block for block, _ in chosen}))
        shifts = torch.zeros(len(blocks), heads, width)
        for block, head in chosen:
            shifts[blocks.index(block), head] = _shift(train.positive[:, block, head], train.negative[:, block, head])
        return cls(
            blocks[0], blocks[0], train.fingerprint, shifts.flatten(1), blocks=blocks, heads=tuple(chosen), alpha=alpha
        )

    def ops(self, query: Query, strength: Strength = 1.0) -> tuple[Add, ...]:
        number: Any = self.alpha * strength
        return tuple(
            Add(Site(block, "hook_z"), shift, self.scope, number, fingerprint=self.fingerprint or None)
            for block, shift in zip(self.blocks, self.shifts, strict=True)
        )


def _shift(positive: Float[Tensor, "pairs d"], negative: Float[Tensor, "pairs d"]) -> Float[Tensor, " d"]:
    """sigma * u of one head."""
    difference = positive.mean(dim=0) - negative.mean(dim=0)
    unit = difference / difference.norm().clamp_min(torch.finfo(torch.float32).tiny)
    return (torch.cat([positive, negative]) @ unit).std() * unit


def _parted(train: HeadContrasts) -> tuple[HeadContrasts, HeadContrasts]:
    """Raises ValueError where too few pairs are left to fit on."""
    if len(train) < HELD_OUT:
        raise ValueError(
            f"There are {len(train)} pairs; give validation=, or at least {HELD_OUT}, of which one judges."
        )
    rows = range(len(train))
    return train.rows([row for row in rows if row % HELD_OUT]), train.rows([row for row in rows if not row % HELD_OUT])

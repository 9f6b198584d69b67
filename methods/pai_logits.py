"""The image against no image: next tokens chosen by what the image changes in the logits."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from methods.contrasts.sharded import AnyContrasts
from methods.mixing import cut_off, where_steered
from methods.steerer import Fitted, Query, Strength
from methods.streams import Stream, WithoutImage


@dataclass(frozen=True, eq=False)
class PAILogits(Fitted):
    """Mixes log-probabilities lc + (gamma - 1) * (lc - lu), lu without the image; adds nothing.

    Source: PAI, arXiv:2407.21771, the contrast of logits, as its published code has it. gamma = 1 + `excess` *
    strength: strength 1 is the paper's gamma of 1.1, and where gamma is 1 nothing is mixed or cut off.

    Attributes:
        excess: gamma - 1 at strength 1.
        least: tokens less probable than this share of the most probable one, with the image, are not said.
    """

    excess: float = 0.1  # paper: gamma 1.1
    least: float = 0.1  # published code

    @classmethod
    def fit(cls, train: AnyContrasts, *, excess: float = 0.1, least: float = 0.1) -> "PAILogits":
        """There is nothing to fit; the contrasts say whose model it is."""
        return cls(train.reads, train.writes, train.fingerprint, excess, least)

    @property
    def stream(self) -> Stream:
        return WithoutImage()

    def ops(self, query: Query, strength: Strength = 1.0) -> tuple[()]:
        return ()

    def mixed(
        self,
        logits: Float[Tensor, "batch vocabulary"],
        companion: Float[Tensor, "batch vocabulary"],
        strength: Strength,
    ) -> Float[Tensor, "batch vocabulary"]:
        excess = self.excess * torch.as_tensor(strength, device=logits.device)
        gamma = 1 + excess.reshape(-1, 1)
        own, without = logits.float().log_softmax(dim=-1), companion.float().log_softmax(dim=-1)
        return where_steered(cut_off(gamma * (own - without) + without, own, self.least), logits, excess)

"""The image against a noised one: visual contrastive decoding."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from methods.contrasts.sharded import AnyContrasts
from methods.mixing import cut_off, where_steered
from methods.steerer import Fitted, Query, Strength
from methods.streams import Noised, Stream


@dataclass(frozen=True, eq=False)
class VCD(Fitted):
    """Mixes logits (1 + alpha) * l - alpha * l', l' with noise over the image; adds nothing.

    Source: VCD, arXiv:2311.16922. alpha is the strength, 1 in the paper; at 0 nothing is mixed or cut off.

    Attributes:
        least: tokens less probable than this share of the most probable one, with the clean image, are not said.
        step: of the noise, of 1,000.
        seed: of the noise, which is the same for an image in any batch.
    """

    least: float = 0.1  # published code, in Python; its script says 0.2
    step: int = 500  # published code
    seed: int = 0

    @classmethod
    def fit(cls, train: AnyContrasts, *, least: float = 0.1, step: int = 500, seed: int = 0) -> "VCD":
        """There is nothing to fit; the contrasts say whose model it is."""
        return cls(train.reads, train.writes, train.fingerprint, least, step, seed)

    @property
    def stream(self) -> Stream:
        return Noised(self.step, self.seed)

    def ops(self, query: Query, strength: Strength = 1.0) -> tuple[()]:
        return ()

    def mixed(
        self,
        logits: Float[Tensor, "batch vocabulary"],
        companion: Float[Tensor, "batch vocabulary"],
        strength: Strength,
    ) -> Float[Tensor, "batch vocabulary"]:
        alpha = torch.as_tensor(strength, device=logits.device).reshape(-1, 1)
        mixed = (1 + alpha) * logits.float() - alpha * companion.float()
        return where_steered(cut_off(mixed, logits.float(), self.least), logits, strength)

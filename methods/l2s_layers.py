"""Learning to Steer at several blocks: one network predicts the vectors of all from one context."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from interv import Add, Site
from methods.contrasts.sharded import AnyContrasts
from methods.l2s import DEFAULTS, fit_weights
from methods.steerer import Fitted, Query, Strength
from methods.training import Activation, Weights, check_choice


@dataclass(frozen=True, eq=False)
class L2SLayers(Fitted):
    """Adds g_l(context) at each block l of several, where one encoder feeds a decoder for every block.

    Source: this project, after arXiv:2508.12815, Sec. 3, whose network it is where there is one block. The strength is
    divided evenly among the blocks, since what one adds is carried on to the next.

    Attributes:
        decoder_weight: one block's decoder behind the other's.
        blocks: where they add.
    """

    encoder_weight: Float[Tensor, "hidden d_model"]
    encoder_bias: Float[Tensor, " hidden"]
    decoder_weight: Float[Tensor, "width hidden"]
    blocks: tuple[int, ...]
    activation: Activation = "tanh"

    def __post_init__(self) -> None:
        check_choice(self.activation, Activation, "activation")

    @classmethod
    def fit(
        cls,
        train: AnyContrasts,
        *,
        others: Sequence[AnyContrasts] = (),
        validation: AnyContrasts | None = None,
        validation_others: Sequence[AnyContrasts] = (),
        seed: int = 0,
        **options: Any,
    ) -> "L2SLayers":
        """Train one network on the contrast vectors of all blocks; the loss is the mean over blocks.

        Args:
            others: contrasts of the same pairs at further blocks, as `bank.at(reads, writes)` gives them.
            validation, validation_others: the same of the validation pairs, where the best epoch is to be kept.
            options: those of `L2S.fit`.

        Raises ValueError where the contrasts are not of the same pairs and context, or two are of one block.
        """
        for one in others:
            if (one.reads, one.fingerprint, one.id) != (train.reads, train.fingerprint, train.id):
                raise ValueError(
                    f"The contrasts at block {one.writes} are of other pairs, another context or another model than "
                    f"those at block {train.writes}; take all from one bank, bank.at({train.reads}, writes)."
                )
        trains = (train, *others)
        blocks = tuple(one.writes for one in trains)
        if len(set(blocks)) < len(blocks):
            raise ValueError(f"The contrasts are of blocks {', '.join(map(str, blocks))}; give each block once.")
        judged = [] if validation is None else [validation, *validation_others]
        settings = DEFAULTS | options | {"seed": seed}
        settings.pop("validation", None)
        weights = fit_weights(trains, judged, **settings)
        return cls(train.reads, train.writes, train.fingerprint, *weights, blocks, settings["activation"])

    def predict(self, context: Float[Tensor, "batch d_model"]) -> Float[Tensor, "blocks batch d_model"]:
        """The predicted contrast vectors of each block. Raises ValueError for contexts of another width."""
        weights = Weights(self.encoder_weight, self.encoder_bias, self.decoder_weight)
        found = weights.predicted(context, self.activation, "L2SLayers")
        return rearrange(found, "batch (block d) -> block batch d", block=len(self.blocks)).contiguous()

    def ops(self, query: Query, strength: Strength = 1.0) -> tuple[Add, ...]:
        share = strength / len(self.blocks)
        return tuple(
            Add(Site(block), vector, self.scope, share, fingerprint=self.fingerprint or None)
            for block, vector in zip(self.blocks, self.predict(query.context), strict=True)
        )

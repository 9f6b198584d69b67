"""Learning to Steer: predict each input's own vector from its prompt."""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from interv import Add
from methods.contrasts import Contrasts
from methods.steerer import Fitted, Query, Strength
from methods.training import CosineWeight, Init, Schedule, Weights, initial_weights, train_network

Activation = Literal["tanh", "relu"]


@dataclass(frozen=True, eq=False)
class L2S(Fitted):
    """Adds g(context), where g = decoder(tanh(encoder(context))) was trained to predict P2S's vector.

    Source: arXiv:2508.12815, Sec. 3 (L2S) and App. B.1. The decoder has no bias: with the activation at zero
    nothing is added.
    """

    encoder_weight: Float[Tensor, "hidden d_model"] = None  # type: ignore[assignment]
    encoder_bias: Float[Tensor, " hidden"] = None  # type: ignore[assignment]
    decoder_weight: Float[Tensor, "d_model hidden"] = None  # type: ignore[assignment]
    activation: Activation = "tanh"

    @classmethod
    def fit(
        cls,
        train: Contrasts,
        *,
        validation: Contrasts | None = None,
        hidden: int = 100,  # paper, App. B.1
        activation: Activation = "tanh",  # paper; relu for selective steering
        init: Init = "svd",  # published code, POPE
        mse_weight: float = 1.0,  # paper, App. B.1: l2 + l1 + cosine
        l1_weight: float = 1.0,
        cosine_weight: CosineWeight | float = 0.1,  # published code
        balanced: bool = False,  # published code, POPE: the mean of the behaviours' mean losses
        learning_rate: float | None = None,  # 0.4 / d_model: the paper's 1e-4 at LLaVA's width of 4096
        schedule: Schedule = "constant",  # published code, MM-SafetyBench
        warmup_epochs: int = 0,
        epochs: int = 100,  # paper
        batch_size: int = 64,  # paper
        seed: int = 0,
    ) -> "L2S":
        """Train the network with Adam on the contrast vectors of the training pairs.

        With `validation` the epoch of the lowest validation loss is kept, without it the last one.
        """
        weights = train_network(
            initial_weights(train, hidden, init, seed),
            train,
            validation,
            activation=activation,
            mse_weight=mse_weight,
            l1_weight=l1_weight,
            cosine_weight=cosine_weight,
            balanced=balanced,
            learning_rate=0.4 / train.context.shape[1] if learning_rate is None else learning_rate,
            schedule=schedule,
            warmup_epochs=warmup_epochs,
            epochs=epochs,
            batch_size=batch_size,
            seed=seed,
        ).kept
        return cls(
            train.reads,
            train.writes,
            train.fingerprint,
            encoder_weight=weights.encoder_weight,
            encoder_bias=weights.encoder_bias,
            decoder_weight=weights.decoder_weight,
            activation=activation,
        )

    def predict(self, context: Float[Tensor, "batch d_model"]) -> Float[Tensor, "batch d_model"]:
        """The predicted contrast vectors."""
        weights = Weights(self.encoder_weight, self.encoder_bias, self.decoder_weight)
        return weights.to(context.device)(context.float(), self.activation)

    def ops(self, query: Query, strength: Strength = 1.0) -> tuple[Add, ...]:
        return self.add(self.predict(query.context), strength)

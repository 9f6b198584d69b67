"""Learning to Steer: predict each input's own vector from its prompt."""

from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interv import VLM, Add, Scope
from methods.checks import check_contrasts
from methods.contrasts.sharded import AnyContrasts
from methods.reference_networks import read_network, write_network
from methods.steerer import Fitted, Query, Strength
from methods.training import (
    Activation,
    CosineWeight,
    Init,
    Schedule,
    Weights,
    check_choice,
    initial_weights,
    train_network,
)


@dataclass(frozen=True, eq=False)
class L2S(Fitted):
    """Adds g(context), where g = decoder(tanh(encoder(context))) was trained to predict P2S's vector.

    Source: arXiv:2508.12815, Sec. 3 (L2S) and App. B.1. The decoder has no bias: with the activation at zero
    nothing is added.
    """

    encoder_weight: Float[Tensor, "hidden d_model"]
    encoder_bias: Float[Tensor, " hidden"]
    decoder_weight: Float[Tensor, "d_model hidden"]
    activation: Activation = "tanh"

    def __post_init__(self) -> None:
        check_choice(self.activation, Activation, "activation")

    @classmethod
    def fit(
        cls,
        train: AnyContrasts,
        *,
        validation: AnyContrasts | None = None,
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
        device: str | None = None,  # where the contrasts lie
    ) -> "L2S":
        """Train the network with Adam on the contrast vectors of the training pairs.

        With `validation` the epoch of the lowest validation loss is kept, without it the last one. Contrasts in shards
        are read batch by batch and never held whole. Raises ValueError where a row is not of finite numbers.
        """
        weights = fit_weights(
            [train],
            [] if validation is None else [validation],
            hidden=hidden,
            activation=activation,
            init=init,
            mse_weight=mse_weight,
            l1_weight=l1_weight,
            cosine_weight=cosine_weight,
            balanced=balanced,
            learning_rate=learning_rate,
            schedule=schedule,
            warmup_epochs=warmup_epochs,
            epochs=epochs,
            batch_size=batch_size,
            seed=seed,
            device=device,
        )
        return cls(
            train.reads,
            train.writes,
            train.fingerprint,
            encoder_weight=weights.encoder_weight,
            encoder_bias=weights.encoder_bias,
            decoder_weight=weights.decoder_weight,
            activation=activation,
        )

    @classmethod
    def from_reference(
        cls,
        path: str | Path,
        *,
        reads: int,
        writes: int,
        vlm: VLM | None = None,
        fingerprint: str = "",
        activation: Activation = "tanh",
        scope: Scope = "response",  # the published code runs its networks with "all"
    ) -> "L2S":
        """A network that the published code trained.

        The file does not say which model and layers it is for. With `vlm` its width is compared here and other models
        refuse the ops, as they do with a `fingerprint`; without both, any model of the right width takes them.

        Raises ValueError where the file holds no such network, or one of another width than the model's.
        """
        weights = read_network(path)
        width = weights.encoder_weight.shape[1]
        if vlm is not None and width != vlm.d_model:
            raise ValueError(
                f"The network in {path} is made for a width of {width}; {vlm.name} has {vlm.d_model}. "
                "Published ones have 4096 (LLaVA-1.5-7B) or 3584 (Qwen2-VL-7B)."
            )
        if vlm is not None and not max(reads, writes) < vlm.n_layers:
            raise ValueError(f"reads={reads} and writes={writes} must be below {vlm.n_layers}, {vlm.name}'s blocks.")
        fingerprint = vlm.fingerprint if vlm is not None else fingerprint
        return cls(reads, writes, fingerprint, *weights, activation, scope=scope)

    def to_reference(self, path: str | Path) -> None:
        """Write the network alone, as the published code reads it: layers, scope and model are not in the file."""
        write_network(self._weights(), path)

    def shown(self) -> dict[str, Any]:
        values = super().shown()
        layers = {"reads": values.pop("reads"), "writes": values.pop("writes")}
        return layers | {"hidden": len(self.encoder_weight)} | values

    def predict(self, context: Float[Tensor, "batch d_model"]) -> Float[Tensor, "batch d_model"]:
        """The predicted contrast vectors. Raises ValueError for contexts of another width."""
        return self._weights().predicted(context, self.activation, "L2S")

    def _weights(self) -> Weights:
        return Weights(self.encoder_weight, self.encoder_bias, self.decoder_weight)

    def ops(self, query: Query, strength: Strength = 1.0) -> tuple[Add, ...]:
        return self.add(self.predict(query.context), strength)


def fit_weights(
    trains: Sequence[AnyContrasts],
    validations: Sequence[AnyContrasts],
    *,
    hidden: int,
    init: Init,
    seed: int,
    learning_rate: float | None,
    **options: Any,
) -> Weights:
    """The network of contrasts of the same pairs at one block or several; of several the decoder gives all vectors."""
    for one in trains:
        check_contrasts(one)
    for one in validations:
        check_contrasts(one, "validation")
    starts = [initial_weights(one, hidden, init, seed) for one in trains]
    return train_network(
        starts[0]._replace(decoder_weight=torch.cat([start.decoder_weight for start in starts])),
        trains[0],
        validations[0] if validations else None,
        others=trains[1:],
        validation_others=validations[1:],
        learning_rate=0.4 / trains[0].width if learning_rate is None else learning_rate,
        seed=seed,
        **options,
    ).kept


# What `L2S.fit` takes where it is not told otherwise.
DEFAULTS: dict[str, Any] = {
    name: option.default for name, option in signature(L2S.fit).parameters.items() if option.default is not option.empty
}

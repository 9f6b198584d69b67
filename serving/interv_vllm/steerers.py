"""What adds what: a vector that is known before the request, or a network that predicts one from the prompt's state."""

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

Scope = Literal["response", "generated"]
WEIGHTS = ("encoder_weight", "encoder_bias", "decoder_weight")
ACTIVATIONS = {"tanh": torch.tanh, "relu": torch.relu}


class SteererError(ValueError):
    """A steerer that this engine cannot run."""


@dataclass(frozen=True, eq=False)
class Nothing:
    """The model as it is, under a name: what others are compared with."""

    blocks: tuple[int, ...] = ()

    def to(self, device: torch.device | str) -> "Nothing":
        return self


@dataclass(frozen=True, eq=False)
class Constant:
    """Adds one vector, [width] in float32, to what leaves decoder block `writes`."""

    writes: int
    scope: Scope
    vector: Tensor

    def to(self, device: torch.device | str) -> "Constant":
        return replace(self, vector=self.vector.to(device))

    @property
    def width(self) -> int:
        return self.vector.shape[-1]

    @property
    def blocks(self) -> tuple[int, ...]:
        return (self.writes,)


@dataclass(frozen=True, eq=False)
class Learned:
    """Adds decoder(activation(encoder(state))), by the state that leaves block `reads` at the last prompt token."""

    reads: int
    writes: int
    scope: Scope
    encoder_weight: Tensor
    encoder_bias: Tensor
    decoder_weight: Tensor
    activation: str = "tanh"

    def to(self, device: torch.device | str) -> "Learned":
        moved = {name: getattr(self, name).to(device) for name in WEIGHTS}
        return replace(self, **moved)

    @property
    def width(self) -> int:
        return self.encoder_weight.shape[-1]

    @property
    def blocks(self) -> tuple[int, ...]:
        return (self.reads, self.writes)

    def predict(self, states: Tensor) -> Tensor:
        """[rows, width] to [rows, width], in float32."""
        hidden = torch.nn.functional.linear(states.float(), self.encoder_weight, self.encoder_bias)
        return torch.nn.functional.linear(ACTIVATIONS[self.activation](hidden), self.decoder_weight)


Steerer = Nothing | Constant | Learned


def check_scope(scope: Any, where: str) -> Scope:
    """Raises SteererError for scopes that need the prompt to run once more, which an engine that pages it cannot do."""
    if scope not in get_args(Scope):
        raise SteererError(
            f"{where} has the scope {scope!r}; while requests are served it can be 'response' or 'generated', since "
            "blocks of the prompt are shared between requests and must stay as they are. Give "
            '{"path": ..., "scope": "response"} to run it so.'
        )
    return scope


def check_fits(name: str, steerer: Steerer, width: int, layers: int) -> None:
    """Raises SteererError where the steerer was made for a model of other measures."""
    if isinstance(steerer, Nothing):
        return
    if steerer.width != width:
        raise SteererError(f"Steerer {name!r} is made for a width of {steerer.width}; this model has {width}.")
    outside = [block for block in steerer.blocks if not 0 <= block < layers]
    if outside:
        raise SteererError(f"Steerer {name!r} names block {outside[0]}; this model's run from 0 to {layers - 1}.")

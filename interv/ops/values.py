"""What an op may be made of, checked once, where it enters."""

import sys
from numbers import Real
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interv.places.scope import Scope, check_scope

Tokens = Scope | int | Int[Tensor, "batch k"]
Rows = Float[Tensor, " width"] | Float[Tensor, "batch width"]
Number = float | int | Float[Tensor, " batch"]


def check_tokens(tokens: Tokens) -> None:
    if isinstance(tokens, str):
        check_scope(tokens)
    elif isinstance(tokens, Tensor):
        if tokens.dtype != torch.long or tokens.ndim != 2:
            raise ValueError(f"tokens is {tokens.dtype} {list(tokens.shape)}; indices are a LongTensor [batch, k].")
    elif not isinstance(tokens, int) or isinstance(tokens, bool):
        raise ValueError(f"tokens is {tokens!r}; it must be a scope, an index, or a LongTensor [batch, k].")


def check_number(name: str, number: Number) -> None:
    if isinstance(number, Tensor):
        check_finite(name, number, "a number or [batch]", dimensions=(1,))
    elif not isinstance(number, Real) or not abs(number) <= sys.float_info.max:
        raise ValueError(f"{name} is {described(number)}; it must be a finite number, or a tensor [batch].")


def check_finite(name: str, tensor: Tensor, fits: str, dimensions: tuple[int, ...]) -> None:
    if not isinstance(tensor, Tensor) or not tensor.is_floating_point() or tensor.ndim not in dimensions:
        raise ValueError(f"{name} is {described(tensor)}; it must be a floating-point tensor, {fits}.")
    if tensor.device.type == "meta":
        raise ValueError(f"{name} is on the meta device and holds no numbers; load it on the model's device.")
    if not torch.isfinite(tensor).all():
        raise ValueError(f"{name} holds NaN or infinite numbers; a model steered with it would say nothing.")


def described(value: Any) -> str:
    """In a few words: the kind and shape of what has one, else the value."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{type(value).__name__} of {value.dtype} {list(value.shape)}"
    return repr(value)[:60]

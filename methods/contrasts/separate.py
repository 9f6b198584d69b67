"""Tensors as a safetensors file takes them."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def separate(values: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors among the values, contiguous, and of those that share their memory all but the first as copies."""
    tensors, taken = {}, set()
    for name, value in values.items():
        if isinstance(value, Tensor):
            tensor = value.detach().contiguous()
            place = tensor.untyped_storage().data_ptr()
            tensors[name] = tensor.clone() if place in taken else tensor
            taken.add(place)
    return tensors

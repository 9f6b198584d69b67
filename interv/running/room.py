"""Key-value caches that copy less: with room for the tokens to come, or for one forward that keeps nothing."""

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import DynamicLayer

CHUNK = 128  # tokens; a longer reply makes room again


class RoomyLayer(DynamicLayer):
    """A growing layer of the same keys and values. It takes over nothing: the first token moves all to its own room."""

    def __init__(self, layer: DynamicLayer, room: int) -> None:
        super().__init__()
        self.dtype, self.device = layer.dtype, layer.device
        self.keys, self.values, self.is_initialized = layer.keys, layer.values, True
        self._room = min(room, CHUNK)
        self._own: tuple[Tensor, ...] = ()

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        kept = (self.keys, self.values)
        # Beams and a selection of rows put other tensors in the place of those that lie here.
        if not self._own or kept[0].data_ptr() != self._own[0].data_ptr() or end > self._own[0].shape[-2]:
            room = max(self._room, key_states.shape[-2])
            self._own = tuple(part.new_empty(*part.shape[:2], start + room, part.shape[-1]) for part in kept)
            for own, part in zip(self._own, kept, strict=True):
                own[..., :start, :] = part
        for own, new in zip(self._own, (key_states, value_states), strict=True):
            own[..., start:end, :] = new
        self.keys, self.values = (own[..., :end, :] for own in self._own)
        return self.keys, self.values


class PassingLayer(DynamicLayer):
    """A layer that other rows continue from, for one forward: its block is given what it needs, and nothing is kept."""

    def __init__(self, layer: DynamicLayer, rows: Int[Tensor, " rows"]) -> None:
        super().__init__()
        self.dtype, self.device = layer.dtype, layer.device
        self.keys, self.values, self.is_initialized = layer.keys, layer.values, True
        self._rows = rows

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        return self._behind(self.keys, key_states), self._behind(self.values, value_states)

    def _behind(self, kept: Tensor, new: Tensor) -> Tensor:
        whole = kept.expand(len(new), -1, -1, -1) if len(kept) == 1 else kept[self._rows]
        return torch.cat([whole, new], dim=-2)


def pass_on(cache: Cache, rows: Int[Tensor, " rows"]) -> None:
    """Let rows continue from these rows of the cache, in one forward that leaves it as it is.

    Plain layers copy what is repeated one at a time, and not all of them before.
    """
    for number, layer in enumerate(cache.layers):
        if type(layer) is DynamicLayer and layer.is_initialized:
            cache.layers[number] = PassingLayer(layer, rows)
        else:
            layer.batch_select_indices(rows)


def make_room(cache: Cache, tokens: int) -> None:
    """Let the cache's plain layers grow in place; those with a window or a state of their own stay as they are."""
    cache.layers = [
        RoomyLayer(layer, tokens) if type(layer) is DynamicLayer and layer.is_initialized else layer
        for layer in cache.layers
    ]

"""A key-value cache with room for the tokens to come: each is written where concatenation would copy all before it."""

from typing import Any

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


def make_room(cache: Cache, tokens: int) -> None:
    """Let the cache's plain layers grow in place; those with a window or a state of their own stay as they are."""
    cache.layers = [
        RoomyLayer(layer, tokens) if type(layer) is DynamicLayer and layer.is_initialized else layer
        for layer in cache.layers
    ]

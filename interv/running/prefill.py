"""A prompt that has run once: its cache, what was read on the way, and all that decoding needs to go on."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from interv.display import OneLine
from interv.prompts.encoding import Encoded
from interv.running.room import make_room, pass_on


@dataclass(frozen=True, eq=False)
class Prefill(OneLine):
    """The prompts' one pass. It is not used up: any number of runs may decode from it.

    `captured[site]`, by the site as it was asked for, is the hidden state of each last prompt token, [batch, width],
    before any steering; what a `Capture` read stands under that, as its `tokens` say. `model` is the one that ran, and
    no other goes on from here. `blocks` is None, or how many decoder blocks ran.
    """

    model: PreTrainedModel
    encoded: Encoded
    cache: Cache
    captured: dict[Any, Any]
    blocks: int | None = None

    def __len__(self) -> int:
        return len(self.encoded)

    def shown(self) -> dict[str, Any]:
        sites = [str(getattr(read, "site", read)) for read in self.captured]
        read = {"captured": sites} if sites else {}
        return self.encoded.shown() | read | ({} if self.blocks is None else {"blocks": self.blocks})

    def select(self, rows: Sequence[int]) -> "Prefill":
        """These rows, in this order; a row may come several times, once for each way of steering it."""
        chosen = list(rows)
        if not chosen:
            raise ValueError("There are no rows to select; give at least one.")
        index = torch.tensor(chosen)  # on the CPU: the layers of a model may lie on several devices
        captured = {
            read: values[index] if isinstance(values, Tensor) else [values[row] for row in chosen]
            for read, values in self.captured.items()
        }
        return Prefill(self.model, self.encoded.select(chosen), _rows_of(self.cache, index), captured, self.blocks)

    def following(
        self,
        rows: Sequence[int],
        input_ids: Int[Tensor, "batch seq"],
        attention_mask: Int[Tensor, "batch seq"],
        position_ids: Int[Tensor, "*planes batch seq"],
    ) -> tuple[dict[str, Any], Cache]:
        """What a forward needs to run further tokens behind these rows, and the cache that holds the rows."""
        behind, cache = torch.tensor(list(rows)), fork(self.cache)
        pass_on(cache, behind)
        mask = torch.cat([self.encoded.attention_mask[behind], attention_mask], dim=1)
        return {"input_ids": input_ids, "attention_mask": mask, "position_ids": position_ids}, cache

    def decoding_inputs(self, copies: int = 1, tokens: int = 1) -> dict[str, Any]:
        """What `generate` needs to run the last prompt token and go on to `tokens` new ones, each row `copies` times.

        `generate` repeats the rows of tensors by itself, but not those of a cache.
        """
        cache = fork(self.cache)
        cache.crop(-1)
        for layer in cache.layers:
            if getattr(layer, "record_past", False):  # cropped once, and from here on as long as its window
                layer.record_past = False
        if copies > 1:
            cache.batch_repeat_interleave(copies)
        make_room(cache, tokens)
        ids, mask = self.encoded.input_ids, self.encoded.attention_mask
        # Penalties for tokens that were there already take padding for such, so it is a token that the row has anyway.
        first = ids.gather(1, mask.argmax(dim=1, keepdim=True))
        return {
            "input_ids": torch.where(mask.bool(), ids, first),
            "attention_mask": self.encoded.attention_mask,
            "position_ids": self.encoded.position_ids,
            "past_key_values": cache,
        }


def _rows_of(cache: Cache, index: Int[Tensor, " rows"]) -> Cache:
    """These rows of a cache. A single row is not copied however often it is wanted: growing makes the copies."""
    chosen = fork(cache)
    for layer in chosen.layers:
        if type(layer) is DynamicLayer and layer.is_initialized and len(layer.keys) == 1:
            layer.keys, layer.values = (part.expand(len(index), -1, -1, -1) for part in (layer.keys, layer.values))
        else:
            layer.batch_select_indices(index)
    return chosen


def fork(cache: Cache) -> Cache:
    """A cache that grows by itself and shares the tensors that are there: growing replaces them, it never writes."""
    twin = copy.copy(cache)
    twin.layers = [copy.copy(layer) for layer in cache.layers]
    return twin


def empty_cache(config: PreTrainedConfig) -> Cache:
    """A cache that can give the last prompt token back.

    Blocks that attend in a window forget what leaves it; here they keep all until the cache is cropped.
    """
    cache = DynamicCache(config=config.get_text_config(decoder=True))
    cache.activate_past_recording()
    return cache


def sees_all(config: PreTrainedConfig) -> bool:
    """Whether every block attends to all tokens before, so that padding may lie anywhere between them."""
    return all(type(layer) is DynamicLayer for layer in empty_cache(config).layers)

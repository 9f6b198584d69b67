"""How large a model's parts are in memory, from its shapes alone, and how many replies fit beside its weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from interv import VLM, Prompt
from interv.models.turns import turn_of
from interv.prompts.rendering import render, rendered

SPARE = 0.9  # of the memory may be planned with; the rest is the allocator's, and other programs'
MOST = 256  # replies at once: beyond that a batch gains nothing


@dataclass(frozen=True)
class Sizes:
    """Bytes of one model.

    Attributes:
        parameters: how many numbers its weights are.
        weights: all of them.
        key_values: of one token in the cache of all blocks.
        passing: of one token while the widest block works on it.
        width, blocks: of the decoder.
    """

    parameters: int
    weights: int
    key_values: int
    passing: int
    width: int
    blocks: int

    @classmethod
    def of(cls, vlm: VLM, bits: int | None = None) -> "Sizes":
        """Those of a model, or of the outline of one; `bits` are of its weights, where they are quantised."""
        text, size = vlm.model.config.get_text_config(), vlm.model.dtype.itemsize
        heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
        width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        own = list(vlm.model.parameters())
        count = sum(one.numel() for one in own)
        return cls(
            count,
            sum(one.numel() * one.element_size() for one in own) if bits is None else count * bits // 8,
            2 * heads * width * size * vlm.n_layers,
            (3 * text.intermediate_size + 6 * text.hidden_size) * size,
            vlm.d_model,
            vlm.n_layers,
        )

    def reply(self, tokens: int, new_tokens: int) -> int:
        """What one reply holds: its prompt in the prefill, the same again with room for the reply, one block's work."""
        return self.key_values * (2 * tokens + new_tokens) + self.passing * tokens

    def fitting(self, memory: int, tokens: int, new_tokens: int) -> int:
        """How many replies fit beside the weights: a power of two, from 1 to `MOST`."""
        rows = max(1, int(SPARE * memory - self.weights) // self.reply(tokens, new_tokens))
        return min(MOST, 1 << (rows.bit_length() - 1))


@dataclass(frozen=True)
class Lengths:
    """How many tokens prompts have on average, those of images among them."""

    tokens: int
    image_tokens: int


def lengths_of(vlm: VLM, prompts: Sequence[Prompt], looked_at: int = 8) -> Lengths:
    """Of a sample of the prompts, by the processor alone. A prompt that cannot be used is left out."""
    found = []
    for prompt in prompts[:: max(1, len(prompts) // looked_at)][:looked_at]:
        try:
            with turn_of(vlm.processor.tokenizer):
                ids = rendered(vlm.processor, [prompt], Prompt.images, vlm.layout.images_by_prompt, render)["input_ids"]
        except ValueError:
            continue
        found.append((ids.numel(), int((ids == vlm.model.config.image_token_id).sum())))
    if not found:
        return Lengths(0, 0)
    return Lengths(*(round(sum(column) / len(found)) for column in zip(*found, strict=True)))


def memory_of(device: torch.device) -> int:
    """All bytes of a GPU, or of the machine; 8 GB where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    file = Path("/proc/meminfo")
    return int(file.read_text().split("MemTotal:")[1].split()[0]) * 1024 if file.exists() else 8 * 2**30

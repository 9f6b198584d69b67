"""A Qwen2-VL with random weights and heads that CPUs can serve, and steerers that move it."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration, Qwen2VLImageProcessorPil

from interv import VLM, Prompt
from interv.models.processors import ImageQwen2VLProcessor
from methods import L2S
from tests.tiny_models import TEMPLATE, _seeded, _tokenizer

WIDTH, LAYERS, HEADS = 128, 6, 4
SPECIAL = {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "vision_start_token": "<|vision_start|>",
    "vision_end_token": "<|vision_end|>",
}
PAIRS = ((3, 3), (5, 2), (1, 4))


def random_qwen2vl(folder: Path) -> VLM:
    tokenizer = _tokenizer("<|endoftext|>", "<|im_end|>", None, **SPECIAL)
    ids = {f"{name}_id": tokenizer.convert_tokens_to_ids(token) for name, token in SPECIAL.items()}
    config = Qwen2VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": WIDTH,
            "intermediate_size": 2 * WIDTH,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "num_key_value_heads": HEADS // 2,
            "max_position_embeddings": 512,
            "initializer_range": 0.12,
            "pad_token_id": tokenizer.pad_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "bos_token_id": None,
            "rope_parameters": {"rope_type": "default", "mrope_section": [4, 6, 6], "rope_theta": 1e4},
        },
        vision_config={
            "depth": 2,
            "embed_dim": 64,
            "hidden_size": WIDTH,
            "num_heads": 2,
            "mlp_ratio": 2,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "initializer_range": 0.12,
        },
        **ids,
    )
    images = Qwen2VLImageProcessorPil(min_pixels=28 * 28, max_pixels=84 * 84)
    template = TEMPLATE.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    processor = ImageQwen2VLProcessor(images, tokenizer, chat_template=template)
    model: Any = _seeded(Qwen2VLForConditionalGeneration, config, 0)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return VLM(model, processor, "random-qwen2vl")


def steerers(vlm: VLM) -> dict[str, L2S]:
    """Networks of random weights, whose vectors are about as long as the states that they are added to."""
    generator = torch.Generator().manual_seed(7)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) / shape[-1] ** 0.5

    return {
        f"l2s-{reads}-{writes}": L2S(
            reads, writes, vlm.fingerprint, drawn(32, WIDTH), drawn(32), 8 * drawn(WIDTH, 32), "tanh"
        )
        for reads, writes in PAIRS
    }


def questions(count: int) -> list[Prompt]:
    """Images of several sizes, so that prompts have several lengths and positions."""
    rng = np.random.default_rng(3)
    sizes = [(28, 28), (56, 84), (84, 56), (56, 56)]
    return [
        Prompt(
            Image.fromarray(rng.integers(0, 256, (*sizes[number % 4], 3), dtype=np.uint8)),
            f"What is {'x' * (number % 7)} here?",
        )
        for number in range(count)
    ]

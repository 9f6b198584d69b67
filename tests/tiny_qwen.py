"""Tiny random models of the Qwen-VL families after Qwen2-VL."""

from typing import Any

import transformers as hf

from tests.tiny_models import TEMPLATE, WIDTH, _seeded, _text, _tokenizer

PATCH = 14

_QWEN = {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "vision_start_token": "<|vision_start|>",
    "vision_end_token": "<|vision_end|>",
}
_QWEN_TEMPLATE = TEMPLATE.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")


def _qwen(family: str, vision: dict[str, Any], rotation: dict[str, Any], seed: int, **text: Any) -> tuple[Any, Any]:
    from interv.models.processors import IMAGE_ONLY

    tokenizer = _tokenizer("<|endoftext|>", "<|im_end|>", None, **_QWEN)
    names = {"qwen2_5_vl": "Qwen2_5_VL", "qwen3_vl": "Qwen3VL"}
    config = getattr(hf, f"{names[family]}Config")(
        text_config={**_text(tokenizer), "rope_parameters": rotation, "bos_token_id": None, **text},
        vision_config=vision,
        **{f"{name}_id": tokenizer.convert_tokens_to_ids(token) for name, token in _QWEN.items()},
    )
    size = vision["patch_size"] * 2
    images = hf.Qwen2VLImageProcessorPil(
        min_pixels=size**2, max_pixels=(3 * size) ** 2, patch_size=vision["patch_size"], merge_size=2
    )
    processor = IMAGE_ONLY[family](images, tokenizer, chat_template=_QWEN_TEMPLATE)
    return _seeded(getattr(hf, f"{names[family]}ForConditionalGeneration"), config, seed), processor


def tiny_qwen2_5_vl(seed: int = 0) -> tuple[Any, Any]:
    """Images of any size; attention in windows in all vision blocks but one."""
    vision = {
        "depth": 2,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_heads": 2,
        "patch_size": PATCH,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "window_size": 2 * 2 * PATCH,
        "fullatt_block_indexes": [1],
        "out_hidden_size": WIDTH,
    }
    return _qwen("qwen2_5_vl", vision, {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 1e4}, seed)


def tiny_qwen3_vl(seed: int = 0) -> tuple[Any, Any]:
    """Images of any size; features of a middle vision block are added inside the first decoder blocks."""
    vision = {
        "depth": 2,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_heads": 2,
        "patch_size": PATCH,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "num_position_embeddings": 16,
        "deepstack_visual_indexes": [0],
        "out_hidden_size": WIDTH,
    }
    rotation = {"rope_type": "default", "mrope_section": [2, 1, 1], "mrope_interleaved": True, "rope_theta": 1e4}
    return _qwen("qwen3_vl", vision, rotation, seed, head_dim=WIDTH // 4)

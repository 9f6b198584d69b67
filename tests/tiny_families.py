"""A tiny random model of every family in interv/places/layouts.py, of its own configuration and processor."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import transformers as hf

from tests.tiny_models import LAYERS, TEMPLATE, WIDTH, _seeded, _text, _tokenizer, tiny_llava, tiny_qwen2vl
from tests.tiny_qwen import tiny_qwen2_5_vl, tiny_qwen3_vl

SIDE, PATCH = 28, 14


def _clip() -> hf.CLIPVisionConfig:
    return hf.CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=SIDE,
        patch_size=PATCH,
        initializer_factor=5.0,
    )


def _siglip(side: int = SIDE) -> dict[str, Any]:
    return {
        "model_type": "siglip_vision_model",
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": side,
        "patch_size": PATCH,
        "vision_use_head": False,
    }


def _template(image: str) -> str:
    return TEMPLATE.replace("IMAGE", image)


def tiny_llava_next(seed: int = 0) -> tuple[Any, Any]:
    """Images as a thumbnail and tiles of 28 x 28 pixels, four tokens each and line ends between."""
    tokenizer = _tokenizer("<pad>", "</s>", "<s>", image_token="<image>")
    grid = [[SIDE, 2 * SIDE], [2 * SIDE, SIDE], [2 * SIDE, 2 * SIDE]]
    config = hf.LlavaNextConfig(
        vision_config=_clip(),
        text_config=hf.LlamaConfig(**_text(tokenizer), bos_token_id=tokenizer.bos_token_id),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=grid,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    images = hf.LlavaNextImageProcessorPil(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}, image_grid_pinpoints=grid
    )
    processor = hf.LlavaNextProcessor(
        images,
        tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=_template("<image>"),
    )
    return _seeded(hf.LlavaNextForConditionalGeneration, config, seed), processor


def tiny_llava_onevision(seed: int = 0) -> tuple[Any, Any]:
    """Images as a thumbnail and tiles of 28 x 28 pixels, over SigLIP and Qwen2."""
    from interv.models.processors import ImageLlavaOnevisionProcessor

    tokenizer = _tokenizer("<pad>", "</s>", None, image_token="<image>", video_token="<video>")
    grid = [[SIDE, SIDE], [SIDE, 2 * SIDE], [2 * SIDE, SIDE], [2 * SIDE, 2 * SIDE]]
    config = hf.LlavaOnevisionConfig(
        vision_config=_siglip(),
        text_config={"model_type": "qwen2", **_text(tokenizer), "bos_token_id": None},
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=grid,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    images = hf.LlavaOnevisionImageProcessorPil(size={"height": SIDE, "width": SIDE}, image_grid_pinpoints=grid)
    processor = ImageLlavaOnevisionProcessor(
        images,
        tokenizer,
        num_image_tokens=(SIDE // PATCH) ** 2,
        vision_feature_select_strategy="full",
        chat_template=_template("<image>"),
    )
    return _seeded(hf.LlavaOnevisionForConditionalGeneration, config, seed), processor


def tiny_internvl(seed: int = 0) -> tuple[Any, Any]:
    """Images in tiles of 28 x 28 pixels, one token each after shuffling, over Qwen2."""
    from interv.models.processors import ImageInternVLProcessor

    special = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>"}
    special |= {"video_token": "<video>"}
    tokenizer = _tokenizer("<pad>", "</s>", None, **special)
    vision = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": [SIDE, SIDE],
        "patch_size": [PATCH, PATCH],
    }
    config = hf.InternVLConfig(
        vision_config=vision,
        text_config={"model_type": "qwen2", **_text(tokenizer), "bos_token_id": None},
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=1,
        downsample_ratio=0.5,
    )
    images = hf.GotOcr2ImageProcessorPil(
        size={"height": SIDE, "width": SIDE}, crop_to_patches=True, min_patches=1, max_patches=3
    )
    processor = ImageInternVLProcessor(images, tokenizer, image_seq_length=1, chat_template=_template("<IMG_CONTEXT>"))
    return _seeded(hf.InternVLForConditionalGeneration, config, seed), processor


def tiny_gemma3(seed: int = 0) -> tuple[Any, Any]:
    """Images of 56 x 56 pixels, four tokens each that see one another; two of three blocks attend in a window."""
    special = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    tokenizer = _tokenizer("<pad>", "<eos>", "<bos>", **special)
    text = {**_text(tokenizer), "head_dim": WIDTH // 4, "sliding_window": 64, "bos_token_id": tokenizer.bos_token_id}
    config = hf.Gemma3Config(
        text_config={**text, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]},
        vision_config=_siglip(2 * SIDE),
        mm_tokens_per_image=4,
        boi_token_index=tokenizer.boi_token_id,
        eoi_token_index=tokenizer.eoi_token_id,
        image_token_id=tokenizer.image_token_id,
    )
    images = hf.Gemma3ImageProcessorPil(size={"height": 2 * SIDE, "width": 2 * SIDE})
    processor = hf.Gemma3Processor(images, tokenizer, image_seq_length=4, chat_template=_template("<start_of_image>"))
    return _seeded(hf.Gemma3ForConditionalGeneration, config, seed), processor


def _idefics3(family: str, processor_class: Any, seed: int) -> tuple[Any, Any]:
    special = {
        "image_token": "<image>",
        "fake_image_token": "<fake_token_around_image>",
        "global_image_token": "<global-img>",
        "end_of_utterance_token": "<end_of_utterance>",
    }
    rows = {f"row_{i}_{j}": f"<row_{i}_col_{j}>" for i in (1, 2, 3) for j in (1, 2, 3)}
    tokenizer = _tokenizer("<pad>", "</s>", None, **special, **rows)
    vision = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": SIDE,
        "patch_size": PATCH,
    }
    config = getattr(hf, f"{family}Config")(
        vision_config=vision,
        text_config={"model_type": "llama", **_text(tokenizer), "bos_token_id": None},
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=tokenizer.pad_token_id,
    )
    images = getattr(hf, f"{family}ImageProcessorPil")(
        size={"longest_edge": 2 * SIDE}, max_image_size={"longest_edge": SIDE}
    )
    processor = processor_class(images, tokenizer, image_seq_len=1, chat_template=_template("<image>"))
    return _seeded(getattr(hf, f"{family}ForConditionalGeneration"), config, seed), processor


def tiny_idefics3(seed: int = 0) -> tuple[Any, Any]:
    """Images as tiles of 28 x 28 pixels and a thumbnail, one token each between tokens for row and column."""
    return _idefics3("Idefics3", hf.Idefics3Processor, seed)


def tiny_smolvlm(seed: int = 0) -> tuple[Any, Any]:
    """As Idefics3, of the later model type."""
    from interv.models.processors import ImageSmolVLMProcessor

    return _idefics3("SmolVLM", ImageSmolVLMProcessor, seed)


class _Unlabelled(hf.PaliGemmaProcessor):
    """Without the labels of training, which a forward that they do not fit would refuse."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        batch = super().__call__(*args, **kwargs)
        batch.pop("labels", None)
        return batch


def tiny_paligemma(seed: int = 0) -> tuple[Any, Any]:
    """Images of 28 x 28 pixels, four tokens each; all of the prompt's tokens see one another."""
    tokenizer = _tokenizer("<pad>", "<eos>", "<bos>", image_token="<image>")
    text = {**_text(tokenizer), "head_dim": WIDTH // 4, "bos_token_id": tokenizer.bos_token_id}
    config = hf.PaliGemmaConfig(
        text_config={"model_type": "gemma", **text},
        vision_config=_siglip(),
        image_token_id=tokenizer.image_token_id,
        projection_dim=WIDTH,
    )
    images = hf.SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE})
    images.image_seq_length = 4
    processor = _Unlabelled(images, tokenizer, chat_template=_template("<image>"))
    return _seeded(hf.PaliGemmaForConditionalGeneration, config, seed), processor


# By `config.model_type`.
FAMILIES: dict[str, Callable[[], tuple[Any, Any]]] = {
    "llava": tiny_llava,
    "llava_next": tiny_llava_next,
    "llava_onevision": tiny_llava_onevision,
    "qwen2_vl": tiny_qwen2vl,
    "qwen2_5_vl": tiny_qwen2_5_vl,
    "qwen3_vl": tiny_qwen3_vl,
    "internvl": tiny_internvl,
    "gemma3": tiny_gemma3,
    "idefics3": tiny_idefics3,
    "smolvlm": tiny_smolvlm,
    "paligemma": tiny_paligemma,
}


@cache
def family(name: str) -> Any:
    """A VLM of the family, made once a process, its weights drawn wide so that everything moves the logits."""
    from interv import VLM

    model, processor = FAMILIES[name]()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for parameter in model.model.parameters() if name not in ("llava", "qwen2_vl") else ():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.15)
    assert model.config.model_type == name
    assert model.config.get_text_config().num_hidden_layers == LAYERS
    return VLM(model, processor, f"random-{name}")

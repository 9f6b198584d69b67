"""The two model families at toy size: real architectures with real processors, randomly initialised."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedModel,
    ProcessorMixin,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
)

from interv.models.processors import ImageQwen2VLProcessor
from studies.tiny_world.draw import CELL
from studies.tiny_world.language import chat_template, make_tokenizer
from studies.tiny_world.world import GRID

D_MODEL, D_MLP, N_HEADS, N_LAYERS = 96, 192, 4, 8
CONTEXT_LENGTH = 512
PATCH = CELL // 2  # the vision tower's pixels for a cell's side, in LLaVA, whose processor halves the image
INITIALIZER_RANGE = 0.06  # Llama's .02 is for widths of thousands; at width 96 it starts too close to zero


@dataclass(frozen=True)
class Family:
    """How to build a model, and which of its modules see (frozen after stage 0) and project the image."""

    name: str
    build: Callable[[int], tuple[PreTrainedModel, ProcessorMixin]]
    vision: str
    projector: str
    image_text: str  # the text that the processor repeats once for each image token
    margins: tuple[tuple[int, int], ...] = ((0, 0),)  # image sizes to train on, as `draw`'s margins


def build_llava(seed: int) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    tokenizer = make_tokenizer({"image_token": "<image>"})
    side = GRID * PATCH
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=D_MODEL,
            intermediate_size=D_MLP,
            num_hidden_layers=2,
            num_attention_heads=N_HEADS,
            image_size=side,
            patch_size=PATCH,
            projection_dim=D_MODEL,
        ),
        text_config=LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=D_MODEL,
            intermediate_size=D_MLP,
            num_hidden_layers=N_LAYERS,
            num_attention_heads=N_HEADS,
            num_key_value_heads=N_HEADS,
            max_position_embeddings=CONTEXT_LENGTH,
            initializer_range=INITIALIZER_RANGE,
            tie_word_embeddings=False,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=None,
        ),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=GRID * GRID,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
    )
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side}),
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=chat_template("<image>"),
    )
    return _finish(LlavaForConditionalGeneration, config, processor, seed), processor


def _finish(kind: type[PreTrainedModel], config, processor: ProcessorMixin, seed: int) -> PreTrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind(config)
    tokenizer = processor.tokenizer
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    return model.eval()


def build_qwen2vl(seed: int) -> tuple[Qwen2VLForConditionalGeneration, ImageQwen2VLProcessor]:
    tokens = {
        "image_token": "<|image_pad|>",
        "video_token": "<|video_pad|>",
        "vision_start_token": "<|vision_start|>",
        "vision_end_token": "<|vision_end|>",
    }
    tokenizer = make_tokenizer(tokens)
    rotary = D_MODEL // N_HEADS // 2
    config = Qwen2VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": D_MODEL,
            "intermediate_size": D_MLP,
            "num_hidden_layers": N_LAYERS,
            "num_attention_heads": N_HEADS,
            "num_key_value_heads": N_HEADS // 2,
            "max_position_embeddings": CONTEXT_LENGTH,
            "initializer_range": INITIALIZER_RANGE,
            "rope_parameters": {"rope_type": "default", "mrope_section": [rotary // 3] * 3, "rope_theta": 1e4},
            "tie_word_embeddings": False,
            "pad_token_id": tokenizer.pad_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "bos_token_id": None,
        },
        vision_config={
            "embed_dim": D_MODEL,
            "hidden_size": D_MODEL,
            "depth": 2,
            "num_heads": N_HEADS,
            "mlp_ratio": 2,
            "patch_size": CELL // 2,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
        },
        tie_word_embeddings=False,
        **{f"{name}_id": tokenizer.convert_tokens_to_ids(token) for name, token in tokens.items()},
    )
    side = GRID * CELL
    processor = ImageQwen2VLProcessor(
        image_processor=Qwen2VLImageProcessorPil(
            patch_size=CELL // 2, merge_size=2, min_pixels=side * side, max_pixels=4 * side * side
        ),
        tokenizer=tokenizer,
        chat_template=chat_template("<|vision_start|><|image_pad|><|vision_end|>"),
    )
    return _finish(Qwen2VLForConditionalGeneration, config, processor, seed), processor


LLAVA = Family("llava", build_llava, "model.vision_tower", "model.multi_modal_projector", "<image>")
QWEN2VL = Family(
    "qwen2vl",
    build_qwen2vl,
    "model.visual",
    "model.visual.merger",
    "<|image_pad|>",
    margins=((0, 0), (1, 0), (0, 1), (1, 1)),
)
FAMILIES = {family.name: family for family in (LLAVA, QWEN2VL)}

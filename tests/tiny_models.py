"""Real LLaVA and Qwen2-VL classes with random weights, small enough for a property test and built without a download.

The tokenizer has one token a byte and no merges, so a question of n letters is n tokens. Weights are drawn wide, so
that tokens, positions and vectors all move the logits by far more than rounding does.
"""

from functools import cache
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
)

LAYERS, WIDTH, HEADS = 3, 32, 4
VISION_WIDTH = 16
TEMPLATE = (
    "{% for message in messages %}{{ message['role'][:1] | upper }}: {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}IMAGE{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    "{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}A:{% endif %}"
)
RANDOM = ("random-llava", "random-qwen2vl")


def model_names() -> list[str]:
    """Every model that the laws are tested on: the random ones, and those that come with the package."""
    from interv.models.load import EMBEDDED, embedded_names

    return [*RANDOM, *(embedded_names() if EMBEDDED.is_dir() else [])]


@cache
def build(name: str, dtype: torch.dtype = torch.float32) -> Any:
    """A VLM, made once a process."""
    from interv import VLM

    if name not in RANDOM:
        return VLM.load(name, dtype=dtype)
    model, processor = {"random-llava": tiny_llava, "random-qwen2vl": tiny_qwen2vl}[name]()
    return VLM(model.to(dtype), processor, name)


def tiny_llava(
    seed: int = 0, tokenizer: Any = None, template: str = TEMPLATE.replace("IMAGE", "<image>")
) -> tuple[PreTrainedModel, LlavaProcessor]:
    """Images of 28 x 28 pixels, four image tokens each."""
    tokenizer = tokenizer or _tokenizer("<pad>", "</s>", "<s>", image_token="<image>")
    vision = CLIPVisionConfig(
        hidden_size=VISION_WIDTH,
        intermediate_size=2 * VISION_WIDTH,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        initializer_factor=5.0,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=LlamaConfig(**_text(tokenizer), bos_token_id=tokenizer.bos_token_id),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.15,
    )
    images = CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    processor = LlavaProcessor(
        images,
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template,
    )
    return _seeded(LlavaForConditionalGeneration, config, seed), processor


def tiny_qwen2vl(
    seed: int = 0,
    tokenizer: Any = None,
    template: str = TEMPLATE.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>"),
) -> tuple[PreTrainedModel, Any]:
    """Images of any size, one image token for each 28 x 28 pixels, nine at most."""
    from interv.models.processors import ImageQwen2VLProcessor

    special = {
        "image_token": "<|image_pad|>",
        "video_token": "<|video_pad|>",
        "vision_start_token": "<|vision_start|>",
        "vision_end_token": "<|vision_end|>",
    }
    tokenizer = tokenizer or _tokenizer("<|endoftext|>", "<|im_end|>", None, **special)
    rotation = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 1e4}
    config = Qwen2VLConfig(
        text_config={**_text(tokenizer), "rope_parameters": rotation, "bos_token_id": None, "initializer_range": 0.15},
        vision_config={
            "depth": 2,
            "embed_dim": 16,
            "hidden_size": WIDTH,
            "num_heads": 2,
            "mlp_ratio": 2,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "initializer_range": 0.15,
        },
        **{f"{name}_id": tokenizer.convert_tokens_to_ids(token) for name, token in special.items()},
    )
    images = Qwen2VLImageProcessorPil(min_pixels=28 * 28, max_pixels=84 * 84)
    processor = ImageQwen2VLProcessor(images, tokenizer, chat_template=template)
    return _seeded(Qwen2VLForConditionalGeneration, config, seed), processor


def _tokenizer(pad: str, end: str, begin: str | None, **special: str) -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={symbol: index for index, symbol in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=pad, eos_token=end, bos_token=begin, extra_special_tokens=special
    )
    if begin:
        first = (begin, fast.convert_tokens_to_ids(begin))
        fast.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A", special_tokens=[first]
        )
    return fast


def _text(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS // 2,
        "max_position_embeddings": 512,
        "initializer_range": 0.15,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }


def _seeded(family: type[PreTrainedModel], config: Any, seed: int) -> PreTrainedModel:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = family(config).eval()
    # Their logits are zero, which is never the greatest: a model that has learnt to speak says no image tokens.
    model.lm_head.weight.data[[config.image_token_id, config.get_text_config().pad_token_id]] = 0
    model.generation_config.pad_token_id = config.get_text_config().pad_token_id
    model.generation_config.eos_token_id = config.get_text_config().eos_token_id
    return model

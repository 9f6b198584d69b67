"""Checkpoints of the real sizes with random weights, written shard by shard in the published layouts."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    CLIPImageProcessorPil,
    GenerationConfig,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2VLImageProcessorPil,
)

from interv.models.processors import ImageQwen2VLProcessor
from studies.recipes.completions import CAREFUL, POPE_CODE, REFUSE, SAFETY_LLAVA, SAFETY_QWEN
from studies.tasks.pope.files import SHIPPED
from studies.timing.official import TEMPLATES, Age, as_in_2024, named, named_processor, write

POOL = 16777213  # a prime, so that no two rows of a weight are alike
SHARD = 2**31  # bytes that are held before they are written; the published files have up to 5 GB


@dataclass(frozen=True)
class Shape:
    """A family's sizes, and where its special tokens stand in the vocabulary.

    Attributes:
        text, vision: settings of the decoder and of the vision tower that are not their classes' defaults.
        special: token by id, in rising order.
        roles: what the special tokens are for.
        pixels: of an image, as the processor scales it: the side (LLaVA), or the least and the most (Qwen2-VL).
    """

    text: dict[str, Any]
    vision: dict[str, Any]
    special: dict[int, str]
    roles: dict[str, str]
    top: dict[str, Any] = field(default_factory=dict)
    pixels: tuple[int, ...] = ()


SHAPES = {
    "llava": Shape(  # llava-hf/llava-1.5-7b-hf
        text={"model_type": "llama", "vocab_size": 32064, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5},
        vision={
            "model_type": "clip_vision_model",
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "image_size": 336,
            "patch_size": 14,
            "projection_dim": 768,
        },
        special={0: "<unk>", 1: "<s>", 2: "</s>", 32000: "<image>", 32001: "<pad>"},
        roles={"unk": "<unk>", "bos": "<s>", "eos": "</s>", "pad": "<pad>", "image": "<image>"},
        top={"image_token_id": 32000, "pad_token_id": 32001, "vision_feature_layer": -2},
        pixels=(336,),
    ),
    "qwen2_vl": Shape(  # Qwen/Qwen2-VL-7B-Instruct
        text={
            "vocab_size": 152064,
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "max_position_embeddings": 32768,
            "rms_norm_eps": 1e-6,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
        },
        vision={"depth": 32, "embed_dim": 1280, "num_heads": 16, "hidden_size": 3584},
        special={
            151643: "<|endoftext|>",
            151644: "<|im_start|>",
            151645: "<|im_end|>",
            151652: "<|vision_start|>",
            151653: "<|vision_end|>",
            151655: "<|image_pad|>",
            151656: "<|video_pad|>",
        },
        roles={
            "pad": "<|endoftext|>",
            "eos": "<|im_end|>",
            "image": "<|image_pad|>",
            "video": "<|video_pad|>",
            "vision_start": "<|vision_start|>",
            "vision_end": "<|vision_end|>",
        },
        top={
            "image_token_id": 151655,
            "video_token_id": 151656,
            "vision_start_token_id": 151652,
            "vision_end_token_id": 151653,
        },
        pixels=(3136, 12845056),
    ),
}


def write_checkpoint(family: str, folder: Path, age: Age, layers: int | None = None) -> int:
    """Write the folder and give the bytes of its weights; no more than a shard of them is in memory at a time.

    Weights of one name are the same in both layouts. `layers` cuts the decoder short, for a trial.
    """
    shape = SHAPES[family]
    folder.mkdir(parents=True, exist_ok=True)
    text = shape.text | ({} if layers is None else {"num_hidden_layers": layers})
    config = AutoConfig.for_model(
        family, text_config=text, vision_config=shape.vision, tie_word_embeddings=False, dtype="bfloat16", **shape.top
    )
    with torch.device("meta"):
        empty = AutoModelForImageTextToText.from_config(config)
    config.architectures = [type(empty).__name__]
    config.save_pretrained(folder)
    GenerationConfig(do_sample=False, eos_token_id=None).save_pretrained(folder)  # no reply ends by itself
    processor_of(family).save_pretrained(folder)
    named_processor(folder, family)
    shapes = {name: value.shape for name, value in sorted(empty.state_dict().items())}
    total = _write_shards(folder, family, age, shapes)
    if age == "2024":
        as_in_2024(folder, family)
    return total


def _write_shards(folder: Path, family: str, age: Age, shapes: dict[str, torch.Size]) -> int:
    parts = list(_parts(shapes))
    places = {}
    for number, names in enumerate(parts, start=1):
        file = f"model-{number:05}-of-{len(parts):05}.safetensors"
        weights = {named(name, family, age): random_weight(name, shapes[name]) for name in names}
        save_file(weights, folder / file, metadata={"format": "pt"})
        places |= dict.fromkeys(weights, file)
    total = 2 * sum(shape.numel() for shape in shapes.values())
    write(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": places})
    return total


def _parts(shapes: dict[str, torch.Size]) -> Iterator[list[str]]:
    """The names of each shard."""
    part: list[str] = []
    size = 0
    for name, shape in shapes.items():
        if part and size + 2 * shape.numel() > SHARD:
            yield part
            part, size = [], 0
        part.append(name)
        size += 2 * shape.numel()
    yield part


def random_weight(name: str, shape: torch.Size) -> Tensor:
    """In bfloat16: norms near one, all else as large as a fresh model's; which numbers of the pool is by its name."""
    pool, count = _pool(), shape.numel()
    start = crc32(name.encode()) % POOL
    drawn = torch.cat([pool[start:], *[pool] * (count // POOL + 1)])[:count].reshape(shape)
    return drawn + 1 if len(shape) == 1 and name.endswith("weight") else drawn.contiguous()


@cache
def _pool() -> Tensor:
    """Numbers of a normal distribution; drawing seven billion of them would take minutes."""
    return torch.empty(POOL, dtype=torch.bfloat16).normal_(std=0.02, generator=torch.Generator().manual_seed(0))


def processor_of(family: str) -> Any:
    """The family's own processor and template, and a small byte-level BPE with special tokens at their published ids.

    Its merges are learned from the official questions and the recipes' words, so that a prompt is about as long as with
    the published vocabulary.
    """
    shape, template = SHAPES[family], TEMPLATES[family]
    roles = {f"{role}_token": token for role, token in shape.roles.items()}
    own = {name: token for name, token in roles.items() if name.split("_")[0] in ("unk", "bos", "eos", "pad")}
    extra = {name: token for name, token in roles.items() if name not in own}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=_bpe(shape.special), extra_special_tokens=extra, **own)
    if family == "llava":
        (side,) = shape.pixels
        images = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
        return LlavaProcessor(
            images,
            tokenizer,
            patch_size=shape.vision["patch_size"],
            vision_feature_select_strategy="default",
            num_additional_image_tokens=1,
            chat_template=template,
        )
    least, most = shape.pixels
    images = Qwen2VLImageProcessorPil(min_pixels=least, max_pixels=most)
    return ImageQwen2VLProcessor(images, tokenizer, chat_template=template)


def _bpe(special: dict[int, str]) -> Tokenizer:
    """Pieces that were learned, then unused ones, each special token where it belongs."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=1500, initial_alphabet=alphabet, show_progress=False)
    learner.train_from_iterator(_words(), trainer)
    learned = json.loads(learner.to_str())["model"]
    pieces = iter(sorted(learned["vocab"], key=learned["vocab"].__getitem__))
    vocabulary = {}
    for place in range(max(special) + 1):
        vocabulary[special.get(place) or next(pieces, f"<unused {place}>")] = place
    tokenizer = Tokenizer(models.BPE(vocabulary, [tuple(merge) for merge in learned["merges"]]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(special.values()))
    return tokenizer


def _words() -> Iterator[str]:
    for line in SHIPPED.read_text(encoding="utf-8").splitlines():
        yield json.loads(line)["text"]
    yield from (CAREFUL, REFUSE, "system user assistant USER: ASSISTANT: You are a helpful assistant.")
    for forced in (*POPE_CODE, *SAFETY_LLAVA, *SAFETY_QWEN):
        yield from (forced.suffix, forced.positive, forced.negative)

"""What is timed: random LLaVAs of real sizes, since speed does not depend on what weights say, or an embedded model."""

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedModel,
)

from interv import VLM, Prompt
from methods import ContrastPair
from studies.tiny_world.language import chat_template, make_tokenizer, presence_answer, presence_question
from studies.tiny_world.world import EVERYDAY

SIDE, PATCH = 336, 14  # 24 x 24 = 576 image tokens, as in LLaVA-1.5


@dataclass(frozen=True)
class Size:
    """Width, blocks, heads and feed-forward width of the decoder; the same of the vision tower."""

    text: tuple[int, int, int, int]
    vision: tuple[int, int, int, int]
    vocabulary: int


EMBEDDED = ("tiny-llava", "tiny-qwen2vl")
SIZES = {
    "random-40m": Size((512, 12, 8, 1376), (192, 4, 4, 768), 4096),
    "random-7b": Size((4096, 32, 32, 11008), (1024, 24, 16, 4096), 32064),  # LLaVA-1.5-7B
}


@dataclass(frozen=True)
class Contestants:
    """One model's weights behind three module trees, so that what one contestant installs costs no other."""

    vlm: VLM
    plain: PreTrainedModel
    traced: PreTrainedModel

    @property
    def blocks(self) -> str:
        return self.vlm.layout.blocks


def contestants(name: str, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Contestants:
    """Models that never end a reply by themselves, so that every run decodes as many tokens."""
    make = embedded if name in EMBEDDED else random_llava
    model, processor = make(name, device=device, dtype=dtype)
    plain, traced = twin(model), twin(model)
    return Contestants(VLM(model, processor, name), plain, traced)


def twin(model: PreTrainedModel) -> PreTrainedModel:
    """A copy of the modules that shares every parameter and buffer."""
    shared = {id(tensor): tensor for tensor in [*model.parameters(), *model.buffers()]}
    return copy.deepcopy(model, shared)


def embedded(name: str, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> tuple[PreTrainedModel, Any]:
    vlm = VLM.load(name, device=device, dtype=dtype)
    vlm.model.generation_config.eos_token_id = None
    return vlm.model, vlm.processor


def random_llava(
    name: str, *, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[PreTrainedModel, LlavaProcessor]:
    """A LLaVA of this size, without an end of sequence."""
    size = SIZES[name]
    tokenizer = make_tokenizer({"image_token": "<image>"})
    text, vision = (
        dict(zip(("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"), part, strict=True))
        for part in (size.text, size.vision)
    )
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(image_size=SIDE, patch_size=PATCH, projection_dim=size.vision[0], **vision),
        text_config=LlamaConfig(vocab_size=size.vocabulary, max_position_embeddings=4096, **text),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(SIDE // PATCH) ** 2,
    )
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}),
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=chat_template("<image>"),
    )
    with torch.random.fork_rng(devices=[]), torch.device(device):
        torch.manual_seed(0)
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            model = LlavaForConditionalGeneration(config)
        finally:
            torch.set_default_dtype(before)
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model.eval(), processor


def pairs(images: int, questions: int = 1) -> list[ContrastPair]:
    """So many yes/no questions about each image of noise, with the two answers as the contrast."""
    rng = np.random.default_rng(0)
    noise = [Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)) for _ in range(images)]
    made = []
    for number in range(images * questions):
        image, word = noise[number // questions], EVERYDAY[number % len(EVERYDAY)].word
        asked = Prompt(image, presence_question(word))
        yes, no = (Prompt(image, asked.question, answer=presence_answer(word, answer)) for answer in ("yes", "no"))
        made.append(ContrastPair(asked, yes, no, id=str(number)))
    return made

"""The models of the tiny world: a training run of three steps, and the shipped ones."""

from pathlib import Path

import pytest
import torch
from transformers import AutoProcessor, LlavaForConditionalGeneration

from interv import VLM
from studies.tasks.shapes_pope import ShapesPope
from studies.tiny_world import train
from studies.tiny_world.language import make_tokenizer
from studies.tiny_world.models import FAMILIES
from studies.tiny_world.pack import Packer

EMBEDDED = Path(__file__).parents[2] / "interv" / "embedded"
SHIPPED = ("tiny-llava", "tiny-qwen2vl")


@pytest.mark.slow
def test_three_training_steps_finish_and_reload(tmp_path):
    settings = train.Settings(
        out=tmp_path / "tiny", vision_steps=3, vision_batch=8, clean_steps=2, noisy_steps=1, scenes=2
    )
    folder = train.main(settings)
    model = LlavaForConditionalGeneration.from_pretrained(folder)
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
    assert type(AutoProcessor.from_pretrained(folder)).__name__ == "LlavaProcessor"


def test_vision_training_lowers_its_loss():
    family = FAMILIES["llava"]
    model, processor = family.build(0)
    settings = train.Settings(vision_steps=30, vision_batch=12, warmup=3)
    losses = [step["distance"] for step in map(dict, train.train_vision(model, Packer(family, processor), settings))]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_model_answers_unseen_scenes_in_whole_sentences(name):
    if not (EMBEDDED / name).exists():
        pytest.skip(f"{name} is not in this checkout")
    task, vlm = ShapesPope(), VLM.load(name)
    examples = task.prompts("val")[:24]
    replies = [str(reply) for reply in vlm.generate([e.prompt for e in examples], max_new_tokens=task.max_new_tokens)]
    assert vlm.model.generation_config.do_sample is False
    assert sum(map(task.valid, replies)) >= 22
    assert sum(task.parse(reply) == e.target for reply, e in zip(replies, examples, strict=True)) >= 17


def test_the_shipped_llava_reloads_with_transformers_alone():
    model = LlavaForConditionalGeneration.from_pretrained(EMBEDDED / "tiny-llava")
    processor = AutoProcessor.from_pretrained(EMBEDDED / "tiny-llava")
    fresh = make_tokenizer({"image_token": "<image>"})
    assert type(processor).__name__ == "LlavaProcessor"
    assert processor.tokenizer.padding_side == "left"
    assert processor.tokenizer.get_vocab() == fresh.get_vocab()
    assert model.generation_config.eos_token_id == processor.tokenizer.eos_token_id
    assert model.generation_config.pad_token_id == processor.tokenizer.pad_token_id

"""LoRA's adapters: nothing before they are trained or while they are off, and the same merged or read from disk."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from interv import VLM
from studies.fit.tuning import Tuning, adapters, tuned
from tests.property.reference import bitwise, close
from tests.studies.test_finetuning import lessons
from tests.tiny_models import tiny_llava, tiny_qwen2vl

families = pytest.mark.parametrize("family", [tiny_llava, tiny_qwen2vl])
TUNING = Tuning("LoRA", 3e-2, epochs=3, batch_size=4)


def layers(vlm: VLM) -> list[Any]:
    return [module for module in vlm.model.modules() if hasattr(module, "lora_A")]


def answers(vlm: VLM) -> Tensor:
    return vlm.logits([prompt for prompt, _ in lessons()])


@families
def test_fresh_and_disabled_adapters_are_the_model(family: Callable) -> None:
    vlm = VLM(*family())
    plain = answers(vlm)
    with adapters(vlm, TUNING):
        bitwise(answers(vlm), plain)
    with tuned(vlm, lessons(), TUNING):
        trained = answers(vlm)
        assert not torch.allclose(trained, plain, atol=0.1)
        for layer in layers(vlm):
            layer.enable_adapters(False)
        bitwise(answers(vlm), plain)
        for layer in layers(vlm):
            layer.enable_adapters(True)
        bitwise(answers(vlm), trained)


@families
def test_merged_adapters_answer_the_same(family: Callable) -> None:
    vlm = VLM(*family())
    with tuned(vlm, lessons(), TUNING):
        trained = answers(vlm)
        for layer in layers(vlm):
            layer.merge()
            assert layer.merged
        close(answers(vlm), trained, 1e-4)
        for layer in layers(vlm):
            layer.unmerge()


@families
def test_adapters_from_disk_answer_the_same(family: Callable, tmp_path: Path) -> None:
    vlm, file = VLM(*family()), tmp_path / "adapters.safetensors"
    with tuned(vlm, lessons(), TUNING):
        trained = answers(vlm)
        save_file({name: value for name, value in vlm.model.state_dict().items() if ".lora_" in name}, file)
    with adapters(vlm, TUNING):
        unknown = vlm.model.load_state_dict(load_file(file), strict=False).unexpected_keys
        assert not unknown
        bitwise(answers(vlm), trained)

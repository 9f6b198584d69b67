"""Weights that accelerate brings to their device only while they run."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from accelerate import cpu_offload, disk_offload, dispatch_model
from transformers import PreTrainedModel

from interv import VLM, Add, Capture, Site
from tests.property.cases import Case
from tests.property.reference import bitwise, own_inputs
from tests.tiny_models import tiny_llava, tiny_qwen2vl


def vision_on_disk(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    vision = "model.visual" if hasattr(model.model, "visual") else "model.vision_tower"
    device_map = {name: "cpu" for name, module in model.named_modules() if not list(module.children())}
    device_map = {name: "disk" if name.startswith(vision) else place for name, place in device_map.items()}
    device_map |= {name.rpartition(".")[0]: "disk" for name, _ in model.named_parameters() if name.startswith(vision)}
    return dispatch_model(model, device_map, offload_dir=folder, main_device="cpu")


WAYS: dict[str, Callable[[PreTrainedModel, Path], PreTrainedModel]] = {
    "in memory": lambda model, folder: cpu_offload(model, torch.device("cpu")),
    "on disk": lambda model, folder: disk_offload(model, str(folder), torch.device("cpu")),
    "vision on disk": vision_on_disk,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("family", [tiny_llava, tiny_qwen2vl])
def test_offloaded_models_answer_as_loaded_ones(family: Callable, way: str, tmp_path: Path) -> None:
    model, processor = family()
    loaded = VLM(*family())
    vlm, prompts = VLM(WAYS[way](model, tmp_path), processor), Case().prompts()
    assert vlm.model.device.type == "meta"
    assert vlm.fingerprint == loaded.fingerprint
    vector = torch.randn(vlm.d_model, generator=torch.Generator().manual_seed(0))
    ops = [Add(Site(1), vector, "all", 2.0), Capture(Site(0), "generated")]
    ours, wanted = (one.generate(prompts, ops, max_new_tokens=3) for one in (vlm, loaded))
    assert ours.token_ids == wanted.token_ids
    bitwise(vlm.logits(prompts, ops[:1]), loaded.logits(prompts, ops[:1]))
    bitwise(vlm.capture(prompts, [Site(2)])[Site(2)], loaded.capture(prompts, [Site(2)])[Site(2)])
    inputs = own_inputs(loaded, Case().asks)
    with vlm.installed(ops[:1]):
        steered = vlm.model.generate(**inputs, do_sample=False, max_new_tokens=3)
    with loaded.installed(ops[:1]):
        assert steered.tolist() == loaded.model.generate(**inputs, do_sample=False, max_new_tokens=3).tolist()


def test_weights_that_are_nowhere_are_told_so() -> None:
    model, processor = tiny_llava()
    vlm = VLM(model.to("meta"), processor)
    with pytest.raises(ValueError, match="lie on the meta device and nowhere else"):
        vlm.encode(Case().prompts())

"""Folders in the layouts in which LLaVA-1.5 and Qwen2-VL are published, of tiny random models."""

from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from studies.timing.official import AGES, Age, as_in_2024, named, named_processor, write
from tests.tiny_models import build

__all__ = ["AGES", "OFFICIAL", "Age", "write_official"]
OFFICIAL = {"llava": "random-llava", "qwen2_vl": "random-qwen2vl"}
SHARDS = 3


def write_official(family: str, folder: Path, age: Age = "2024") -> Path:
    """The folder of a tiny random model of the family."""
    vlm = build(OFFICIAL[family])
    folder.mkdir(parents=True, exist_ok=True)
    vlm.model.config.save_pretrained(folder)
    vlm.model.generation_config.save_pretrained(folder)
    vlm.processor.save_pretrained(folder)
    named_processor(folder, family)
    _write_shards(folder, {named(key, family, age): value for key, value in vlm.model.state_dict().items()})
    if age == "2024":
        as_in_2024(folder, family)
    return folder


def _write_shards(folder: Path, weights: dict[str, Tensor]) -> None:
    keys = sorted(weights)
    files = {f"model-{n + 1:05}-of-{SHARDS:05}.safetensors": keys[n::SHARDS] for n in range(SHARDS)}
    for name, own in files.items():
        save_file({key: weights[key].contiguous() for key in own}, folder / name, metadata={"format": "pt"})
    index = {"weight_map": {key: name for name, own in files.items() for key in own}}
    total = sum(value.numel() * value.element_size() for value in weights.values())
    write(folder / "model.safetensors.index.json", {**index, "metadata": {"total_size": total}})

"""Folders in the layouts in which LLaVA-1.5 and Qwen2-VL are published, of tiny random models.

"2024" is what lies on the hub under llava-hf/llava-1.5-7b-hf and Qwen/Qwen2-VL-7B-Instruct: the key names of that time,
Qwen2-VL's text settings at the top of its configuration, preprocessor_config.json, and the chat template as JSON.
"2026" is what transformers 5 calls the same things. Weights come in several files with an index in both.
"""

import json
from pathlib import Path
from typing import Any, Literal

from safetensors.torch import save_file
from torch import Tensor

from tests.tiny_models import build

Age = Literal["2024", "2026"]
AGES: tuple[Age, ...] = ("2024", "2026")
OFFICIAL = {"llava": "random-llava", "qwen2_vl": "random-qwen2vl"}
SHARDS = 3
_KEYS_2024 = {
    "llava": {
        "model.language_model.": "language_model.model.",
        "lm_head.": "language_model.lm_head.",
        "model.vision_tower.": "vision_tower.vision_model.",
        "model.multi_modal_projector.": "multi_modal_projector.",
    },
    "qwen2_vl": {"model.language_model.": "model.", "model.visual.": "visual."},
}
_CLASSES = {"llava": "LlavaProcessor", "qwen2_vl": "Qwen2VLProcessor"}


def write_official(family: str, folder: Path, age: Age = "2024") -> Path:
    """The folder of a tiny random model of the family."""
    vlm = build(OFFICIAL[family])
    folder.mkdir(parents=True, exist_ok=True)
    vlm.model.config.save_pretrained(folder)
    vlm.model.generation_config.save_pretrained(folder)
    vlm.processor.save_pretrained(folder)
    _change(
        folder / "tokenizer_config.json", processor_class=_CLASSES[family], tokenizer_class="PreTrainedTokenizerFast"
    )
    _change(folder / "processor_config.json", processor_class=_CLASSES[family])
    names = _KEYS_2024[family] if age == "2024" else {}
    _write_shards(folder, {_named(key, names): value for key, value in vlm.model.state_dict().items()})
    if age == "2024":
        _as_in_2024(folder, family)
    return folder


def _write_shards(folder: Path, weights: dict[str, Tensor]) -> None:
    keys = sorted(weights)
    files = {f"model-{n + 1:05}-of-{SHARDS:05}.safetensors": keys[n::SHARDS] for n in range(SHARDS)}
    for name, own in files.items():
        save_file({key: weights[key].contiguous() for key in own}, folder / name, metadata={"format": "pt"})
    index = {"weight_map": {key: name for name, own in files.items() for key in own}}
    index["metadata"] = {"total_size": sum(value.numel() * value.element_size() for value in weights.values())}
    _write(folder / "model.safetensors.index.json", index)


def _as_in_2024(folder: Path, family: str) -> None:
    processor = _read(folder / "processor_config.json")
    (folder / "processor_config.json").unlink()
    _write(folder / "preprocessor_config.json", {**processor["image_processor"], "processor_class": _CLASSES[family]})
    template = folder / "chat_template.jinja"
    _write(folder / "chat_template.json", {"chat_template": template.read_text(encoding="utf-8")})
    template.unlink()
    config = _read(folder / "config.json") | {"torch_dtype": "float32", "transformers_version": "4.41.2"}
    config.pop("dtype", None)
    text = config["text_config"]
    rotation = text.pop("rope_parameters")
    text["rope_theta"] = rotation["rope_theta"]
    if family == "qwen2_vl":
        text["rope_scaling"] = {"type": "mrope", "mrope_section": rotation["mrope_section"]}
        config |= {key: value for key, value in config.pop("text_config").items() if key != "model_type"}
        vision = config["vision_config"]
        vision.pop("rope_parameters")
        vision["in_chans"] = vision.pop("in_channels")
    _write(folder / "config.json", config)


def _named(key: str, names: dict[str, str]) -> str:
    start = next((start for start in names if key.startswith(start)), "")
    return names.get(start, "") + key[len(start) :]


def _change(file: Path, **fields: Any) -> None:
    _write(file, _read(file) | fields)


def _read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8"))


def _write(file: Path, value: Any) -> None:
    file.write_text(json.dumps(value, indent=2), encoding="utf-8")

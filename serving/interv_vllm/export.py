"""A checkpoint as vLLM wants it, where a folder is not so: names of the vision weights, and head sizes on CPUs.

Both are exact but for rounding. Heads are filled up with zeros: the softmax divides by the root of the head size, so
the queries are scaled by what that root grows, and rotary angles stay the same with the base raised to the same ratio.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

HEAD_SIZES = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)  # that vLLM's CPU attention knows
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")
OWN_CARD = "interv.json"


class ExportError(ValueError):
    """A checkpoint that cannot be written as vLLM wants it."""


def lacks(folder: str | Path) -> list[str]:
    """What vLLM would stumble over in this folder, [] for most checkpoints of the hub."""
    folder = Path(folder)
    config, found = _config(folder), []
    old, new = head_sizes(config)
    if old != new:
        found.append(f"heads of size {old}, which vLLM's CPU attention does not know")
    names = [name for file in _weights(folder) for name in load_file(file)]
    if any(name != renamed(name) for name in names):
        found.append("vision weights named as transformers 5 writes them")
    return found


def export_for_vllm(model: str | Path, folder: str | Path, fingerprint: str = "") -> Path:
    """Write a copy of a local checkpoint that vLLM serves, and `interv.json` with what tells its model from others.

    Args:
        model: a folder with config.json and safetensors.
        fingerprint: the toolkit's, `VLM.load(model).fingerprint`: with it the engine refuses steerers of other models.

    Raises ExportError for a model whose heads cannot be filled up.
    """
    source, target = Path(model), Path(folder)
    config = _config(source)
    old, new = head_sizes(config)
    text = config.get("text_config", config)
    if old != new:
        _check_fillable(config, text, old, new)
    target.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        if file.is_file() and file.suffix != ".safetensors":
            shutil.copy(file, target / file.name)
    for file in _weights(source):
        weights = load_file(file)
        if old != new:
            weights = {name: _filled(name, weight.float(), text, old, new) for name, weight in weights.items()}
        save_file({renamed(name): weight for name, weight in weights.items()}, target / file.name, {"format": "pt"})
    _rename_index(target)
    if old != new:
        text["head_dim"] = new
        _raise_base(text, new / old)
        config["dtype"] = "float32"  # a scaled query is no longer a number of half precision
        (target / "config.json").write_text(json.dumps(config, indent=2))
    if fingerprint:
        (target / OWN_CARD).write_text(json.dumps({"fingerprint": fingerprint}))
    return target


def source_of(model: str | Path) -> tuple[Path, str]:
    """Where a model's files lie, and its fingerprint where the toolkit is there to tell it.

    Raises ExportError for what is no folder, no embedded model and no hub id.
    """
    folder = folder_of(model)
    try:
        from interv import VLM
    except ImportError:  # the toolkit asks for another transformers than vLLM has
        return folder, ""
    return folder, VLM.load(str(folder)).fingerprint


def folder_of(model: str | Path) -> Path:
    """Where a model's files lie. Raises ExportError as `source_of` does."""
    if Path(model).is_dir():
        return Path(model)
    try:
        from interv.models.load import EMBEDDED
    except ImportError:
        return _from_hub(str(model))
    return EMBEDDED / str(model) if (EMBEDDED / str(model)).is_dir() else _from_hub(str(model))


def renamed(name: str) -> str:
    """Transformers 5 writes CLIP without the `vision_model.` that older checkpoints, and so vLLM, have."""
    head, tower, rest = name.partition("vision_tower.")
    if not tower or head not in ("", "model.") or not rest.startswith(("embeddings.", "encoder.", "pre_", "post_")):
        return name
    return f"{head}{tower}vision_model.{rest}"


def head_sizes(config: Mapping[str, Any]) -> tuple[int, int]:
    """What the text model's heads have, and the least that vLLM's CPU attention can take."""
    text = config.get("text_config", config)
    old = text.get("head_dim") or text["hidden_size"] // text["num_attention_heads"]
    fitting = [size for size in HEAD_SIZES if size >= old]
    if not fitting:
        raise ExportError(f"This model's heads have size {old}; vLLM's CPU attention takes {HEAD_SIZES[-1]} at most.")
    return old, fitting[0]


def filled_up(weight: Tensor, heads: int, old: int, new: int, *, rows: bool) -> Tensor:
    """Zeros behind each half of each head's rows (q, k, v) or columns (o): rotary turns i with i + half."""
    own = weight if rows else weight.T
    own = own.reshape(heads, 2, old // 2, *own.shape[1:])
    wide = own.new_zeros(heads, 2, new // 2, *own.shape[3:])
    wide[:, :, : old // 2] = own
    wide = wide.reshape(heads * new, *own.shape[3:])
    return (wide if rows else wide.T).contiguous()


def _filled(name: str, weight: Tensor, text: Mapping[str, Any], old: int, new: int) -> Tensor:
    projection = next((one for one in PROJECTIONS if f"self_attn.{one}." in name), None)
    if projection is None or "vision" in name:
        return weight
    if projection == "o_proj" and weight.ndim == 1:
        return weight
    heads = text["num_attention_heads"]
    count = heads if projection in ("q_proj", "o_proj") else text.get("num_key_value_heads") or heads
    wide = filled_up(weight, count, old, new, rows=projection != "o_proj")
    return wide * (new / old) ** 0.5 if projection == "q_proj" else wide


def _check_fillable(config: Mapping[str, Any], text: Mapping[str, Any], old: int, new: int) -> None:
    if config["model_type"] != "llava" or text["model_type"] != "llama":
        raise ExportError(
            f"The heads of this {config['model_type']} have size {old}, which vLLM's CPU attention does not know, and "
            f"vLLM reads no other size from its configuration; serve it on a GPU, or a model with heads of {new}."
        )
    kind = (text.get("rope_parameters") or text.get("rope_scaling") or {}).get("rope_type", "default")
    if kind != "default":
        raise ExportError(f"Rotary positions of the kind {kind!r} cannot be kept while heads of {old} become {new}.")


def _raise_base(text: dict[str, Any], ratio: float) -> None:
    place = text.get("rope_parameters") or text
    place["rope_theta"] = place.get("rope_theta", 10000.0) ** ratio


def _from_hub(name: str) -> Path:
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise ExportError(f"{name} is no folder here, no embedded model, and no hub id (owner/name).")
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(name, ignore_patterns=["*.bin", "*.pth"]))


def _config(folder: Path) -> dict[str, Any]:
    if not (folder / "config.json").is_file():
        raise ExportError(f"{folder} holds no config.json; give the folder of a checkpoint.")
    return json.loads((folder / "config.json").read_text())


def _weights(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ExportError(f"{folder} holds no .safetensors file; save the model with save_pretrained first.")
    return files


def _rename_index(folder: Path) -> None:
    for index in folder.glob("*.safetensors.index.json"):
        content = json.loads(index.read_text())
        content["weight_map"] = {renamed(name): file for name, file in content["weight_map"].items()}
        index.write_text(json.dumps(content, indent=2))

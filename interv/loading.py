"""Where models come from: shipped with the package, a local folder, or the Hugging Face hub."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, PreTrainedModel

from interv.layouts import layout_of
from interv.processors import ImageQwen2VLProcessor

EMBEDDED = Path(__file__).parent / "embedded"


def embedded_names() -> list[str]:
    """The models that come with the package."""
    return sorted(folder.name for folder in EMBEDDED.iterdir() if (folder / "config.json").exists())


def load(
    name: str, *, dtype: torch.dtype | str | None, revision: str | None, local_files_only: bool
) -> tuple[PreTrainedModel, Any]:
    """The model and its processor. Raises ValueError with what exists where nothing has the name."""
    embedded = name in embedded_names()
    source = str(EMBEDDED / name) if embedded else name
    if not embedded and not Path(name).is_dir() and not _is_hub_id(name):
        raise ValueError(
            f"{name!r} is no model: it is not embedded ({', '.join(embedded_names())}), no folder here, "
            "and no hub id of the form owner/name."
        )
    options: dict[str, Any] = {"revision": revision, "local_files_only": local_files_only or embedded}
    config = AutoConfig.from_pretrained(source, **options)
    layout_of(config.model_type)
    model = AutoModelForImageTextToText.from_pretrained(
        source, dtype=dtype or (torch.float32 if embedded else "auto"), **options
    )
    # The official Qwen2-VL processor wants torchvision for videos, which images do not need.
    without_video = config.model_type == "qwen2_vl" and find_spec("torchvision") is None
    processor_class = (
        ImageQwen2VLProcessor if without_video or (embedded and config.model_type == "qwen2_vl") else AutoProcessor
    )
    return model, processor_class.from_pretrained(source, **options)


def _is_hub_id(name: str) -> bool:
    return name.count("/") == 1 and not name.startswith((".", "/", "~"))

"""Where models come from: shipped with the package, a local folder, or the Hugging Face hub."""

import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, BitsAndBytesConfig, PreTrainedModel

from interv.layouts import layout_of
from interv.processor_settings import bound_pixels, template_of
from interv.processors import IMAGE_ONLY

EMBEDDED = Path(__file__).parent / "embedded"


def embedded_names() -> list[str]:
    """The models that come with the package."""
    return sorted(folder.name for folder in EMBEDDED.iterdir() if (folder / "config.json").exists())


def load(
    name: str,
    *,
    dtype: torch.dtype | str | None,
    revision: str | None,
    local_files_only: bool,
    device_map: Any = None,
    attn_implementation: str | None = None,
    load_in_4bit: bool = False,
    load_in_8bit: bool = False,
    chat_template: str | Path | None = None,
    max_pixels: int | None = None,
    min_pixels: int | None = None,
) -> tuple[PreTrainedModel, Any]:
    """The model and its processor. Raises ValueError with what exists where nothing has the name."""
    embedded = name in embedded_names()
    source = str(EMBEDDED / name) if embedded else name
    if not embedded and not Path(name).is_dir() and not _is_hub_id(name):
        raise ValueError(
            f"{name!r} is no model: it is not embedded ({', '.join(embedded_names())}), no folder here, "
            "and no hub id of the form owner/name."
        )
    template = None if chat_template is None else template_of(chat_template)
    options: dict[str, Any] = {"revision": revision, "local_files_only": local_files_only or embedded}
    config = AutoConfig.from_pretrained(source, **options)
    layout_of(config.model_type)
    model = AutoModelForImageTextToText.from_pretrained(
        source,
        dtype=dtype or (torch.float32 if embedded else "auto"),
        device_map=device_map,
        attn_implementation=attn_implementation,
        quantization_config=_quantised(load_in_4bit, load_in_8bit, dtype),
        **options,
    )
    # The official processors of these families want torchvision for videos, which images do not need.
    without_video = config.model_type in IMAGE_ONLY and (embedded or find_spec("torchvision") is None)
    processor_class = IMAGE_ONLY[config.model_type] if without_video else AutoProcessor
    processor = completed(processor_class.from_pretrained(source, **options), config)
    if template is not None:
        processor.chat_template = template
    if max_pixels is not None or min_pixels is not None:
        bound_pixels(processor, min_pixels, max_pixels)
    return model, processor


def completed(processor: Any, config: Any) -> Any:
    """The processor, with what older processor files left to the model: how many tokens an image is.

    Without these the LLaVA processors write one image token an image, which the model refuses.
    """
    if hasattr(processor, "patch_size") and processor.patch_size is None:
        processor.patch_size = config.vision_config.patch_size
        # CLIP has a class token beside its patches, which strategy "default" leaves out again.
        processor.num_additional_image_tokens = int(config.vision_config.model_type.startswith("clip"))
    strategy = getattr(config, "vision_feature_select_strategy", None)
    if hasattr(processor, "vision_feature_select_strategy") and processor.vision_feature_select_strategy is None:
        processor.vision_feature_select_strategy = strategy
    return processor


def _quantised(four: bool, eight: bool, dtype: torch.dtype | str | None) -> BitsAndBytesConfig | None:
    if not four and not eight:
        return None
    if four and eight:
        raise ValueError("load_in_4bit and load_in_8bit are both set; choose one.")
    if find_spec("bitsandbytes") is None:
        raise ValueError(
            "Weights in 4 or 8 bits need bitsandbytes: pip install bitsandbytes, or load them with dtype='bfloat16'."
        )
    computed = getattr(torch, dtype) if isinstance(dtype, str) and dtype != "auto" else dtype
    return BitsAndBytesConfig(
        load_in_4bit=four, load_in_8bit=eight, bnb_4bit_compute_dtype=computed if four and computed != "auto" else None
    )


def _is_hub_id(name: str) -> bool:
    return name.count("/") == 1 and not name.startswith((".", "/", "~"))


def fingerprint_of(model: PreTrainedModel) -> str:
    """Sixteen hex digits from the names, shapes and a sample of all weights.

    Weights are rounded to bfloat16, and what float16 cannot hold at full precision counts as zero, so that a checkpoint
    stored in half precision has one fingerprint in whatever precision it is loaded. In 4 or 8 bits it is another model.
    """
    digest = hashlib.sha256(model.config.model_type.encode())
    for name, parameter in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(parameter.shape)}".encode())
        values = _offloaded(model, name) if parameter.is_meta else parameter
        sample = values.flatten()[:: max(1, values.numel() // 32)][:32].to("cpu", torch.bfloat16)
        sample = sample.masked_fill(sample.abs() < torch.finfo(torch.float16).smallest_normal, 0.0)
        digest.update(sample.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _offloaded(model: PreTrainedModel, name: str) -> Tensor:
    """A weight that accelerate keeps in memory or on disk until its module runs."""
    path, _, own = name.rpartition(".")
    hook = getattr(model.get_submodule(path), "_hf_hook", None)
    maps = [getattr(one, "weights_map", None) for one in getattr(hook, "hooks", [hook])]
    return next(weights[own] for weights in maps if weights is not None)

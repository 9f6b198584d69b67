"""Where models come from: shipped with the package, a local folder, or the Hugging Face hub."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, BitsAndBytesConfig, PreTrainedModel

from interv.models.adapters import adapted, adapter_config, base_of
from interv.models.processor_settings import bound_pixels, template_of
from interv.models.processors import IMAGE_ONLY
from interv.models.threads import spare_threads
from interv.places.layouts import layout_of

EMBEDDED = Path(__file__).parents[1] / "embedded"


def embedded_names() -> list[str]:
    """The models that come with the package."""
    return sorted(folder.name for folder in EMBEDDED.iterdir() if (folder / "config.json").exists())


def outline(
    name: str,
    *,
    dtype: torch.dtype | str | None = None,
    revision: str | None = None,
    local_files_only: bool = False,
    max_pixels: int | None = None,
    min_pixels: int | None = None,
) -> tuple[PreTrainedModel, Any]:
    """The model on the meta device, whose weights have shapes alone, and its processor: no file of weights is read.

    An adapter is left out. Raises as `load` does.
    """
    embedded = name in embedded_names()
    source = str(EMBEDDED / name) if embedded else name
    _check_name(name)
    options: dict[str, Any] = {"revision": revision, "local_files_only": local_files_only or embedded}
    if adapter := None if embedded else adapter_config(source, options):
        source, options["revision"] = base_of(name, adapter), adapter.get("revision")
    config = AutoConfig.from_pretrained(source, **options)
    layout_of(config.model_type)
    if isinstance(dtype, str):
        dtype = None if dtype == "auto" else getattr(torch, dtype)
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(
            config, dtype=torch.float32 if embedded and dtype is None else dtype or config.dtype or torch.float32
        )
    return model, _settled(processor_of(source, config, options), None, min_pixels, max_pixels)


def _check_name(name: str) -> None:
    if name not in embedded_names() and not Path(name).is_dir() and not _is_hub_id(name):
        raise ValueError(
            f"{name!r} is no model: it is not embedded ({', '.join(embedded_names())}), no folder here, "
            "and no hub id of the form owner/name."
        )


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
    threads: int | Literal["spare"] | None = None,
) -> tuple[PreTrainedModel, Any]:
    """The model and its processor. Raises ValueError with what exists where nothing has the name."""
    embedded = name in embedded_names()
    source = str(EMBEDDED / name) if embedded else name
    _check_name(name)
    template = None if chat_template is None else template_of(chat_template)
    options: dict[str, Any] = {"revision": revision, "local_files_only": local_files_only or embedded}
    if adapter := None if embedded else adapter_config(source, options):
        model, processor = load(
            base_of(name, adapter),
            dtype=dtype,
            revision=adapter.get("revision"),
            local_files_only=local_files_only,
            device_map=device_map,
            attn_implementation=attn_implementation,
            load_in_4bit=load_in_4bit,
            load_in_8bit=load_in_8bit,
            threads=threads,
        )
        if any(Path(source, f"{kind}_config.json").exists() for kind in ("processor", "preprocessor")):
            processor = processor_of(source, model.config, options)  # what was trained with may have another template
        return adapted(model, source, options), _settled(processor, template, min_pixels, max_pixels)
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
    if threads is not None:
        weights = sum(one.numel() for one in model.parameters())
        torch.set_num_threads(spare_threads(weights) if isinstance(threads, str) else threads)
    return model, _settled(processor_of(source, config, options), template, min_pixels, max_pixels)


def _settled(processor: Any, template: str | None, least: int | None, most: int | None) -> Any:
    if template is not None:
        processor.chat_template = template
    if least is not None or most is not None:
        bound_pixels(processor, least, most)
    return processor


def processor_of(source: str, config: Any, options: dict[str, Any]) -> Any:
    """The processor that lies there, for a model of this configuration."""
    # The official processors of these families want torchvision for videos, which images do not need.
    embedded = Path(source).parent == EMBEDDED
    without_video = config.model_type in IMAGE_ONLY and (embedded or find_spec("torchvision") is None)
    processor_class = IMAGE_ONLY[config.model_type] if without_video else AutoProcessor
    processor = processor_class.from_pretrained(source, **options)
    if not hasattr(processor, "tokenizer") and config.model_type in IMAGE_ONLY:
        # A folder that names a class which transformers does not know gives it a tokenizer alone.
        processor = IMAGE_ONLY[config.model_type].from_pretrained(source, **options)
    return completed(processor, config)


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

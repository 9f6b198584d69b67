"""Models with adapters of peft on them, and other wrappers around a model."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel
from transformers.utils.peft_utils import find_adapter_config_file

_LACKS = "Adapters need peft: pip install 'interv[lora]'."


def own_model(model: Any) -> PreTrainedModel:
    """The transformers model that is to be read and steered, with peft's layers in it where it has an adapter.

    Raises TypeError for another wrapper or a part of a model, and ValueError for an adapter that acts outside the
    model's own modules.
    """
    if isinstance(model, PreTrainedModel):
        if not model.can_generate():
            raise TypeError(f"{type(model).__name__} cannot generate; pass the model with its output head.")
        return model
    if not hasattr(model, "peft_config"):
        raise TypeError(
            f"A VLM is made of a transformers model, not of {type(model).__name__}; pass the model that it wraps. "
            "For a compiled one, call model.compile() instead of torch.compile(model)."
        )
    for name, config in model.peft_config.items():
        if config.is_prompt_learning or str(config.peft_type).endswith("XLORA") or _invoked(config):
            raise ValueError(
                f"The adapter {name!r} ({config.peft_type}) acts in peft's own forward, which a VLM goes without; "
                "pass a model whose adapter lies in its layers, as LoRA's do, or the model without it."
            )
    return own_model(model.base_model.model)


def adapter_config(source: str, options: dict[str, Any]) -> dict[str, Any] | None:
    """The configuration of the adapter that lies there instead of a model, if one does."""
    if Path(source, "config.json").exists():
        return None
    file = find_adapter_config_file(source, **options)
    return None if file is None else json.loads(Path(file).read_text(encoding="utf-8"))


def base_of(source: str, config: dict[str, Any]) -> str:
    """The name of the model that the adapter belongs to. Raises ValueError where it names none, or without peft."""
    if find_spec("peft") is None:
        raise ValueError(f"{source} is an adapter of {config.get('base_model_name_or_path')}. {_LACKS}")
    if not (base := config.get("base_model_name_or_path")):
        raise ValueError(
            f"{source} is an adapter that does not say of which model: write base_model_name_or_path into its "
            "adapter_config.json, or pass VLM(PeftModel.from_pretrained(model, folder), processor)."
        )
    return base


def adapted(model: PreTrainedModel, source: str, options: dict[str, Any]) -> PreTrainedModel:
    """The model with the adapter that lies there."""
    from peft import PeftModel

    return own_model(PeftModel.from_pretrained(model, source, **options))


def _invoked(config: Any) -> bool:
    return bool(getattr(config, "alora_invocation_tokens", None))

"""What tells one model from another: its weights, the adapters on them, and how prompts become its inputs."""

import hashlib
import json
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from weakref import ref

import torch
from torch import Tensor
from transformers import PreTrainedModel


class Fingerprint:
    """A model's fingerprint, worked out anew only where its weights or adapters have changed since."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._seen: list[Any] = []
        self._tensors: list[ref[Tensor]] = []
        self._value = ""

    def __str__(self) -> str:
        now = _marks(self._model)
        # A tensor that is gone may have left its id to another.
        if now != self._seen or any(tensor() is None for tensor in self._tensors):
            self._value, self._seen = fingerprint_of(self._model), now
            self._tensors = [ref(parameter) for parameter in self._model.parameters()]
        return self._value


def fingerprint_of(model: PreTrainedModel) -> str:
    """Sixteen hex digits from the names, shapes and a sample of all weights, and from what adapters are set to.

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
    for adapter in _adapters(model):
        digest.update(json.dumps(adapter).encode())
    return digest.hexdigest()[:16]


def preprocessing_of(processor: Any) -> dict[str, str | None]:
    """What makes a prompt the model's inputs, each part by its class and a hash of its settings.

    Two processors with the same parts here give the same inputs for the same prompts.
    """
    tokenizer, images = processor.tokenizer, getattr(processor, "image_processor", None)
    template = getattr(processor, "chat_template", None) or tokenizer.chat_template
    return {
        "chat_template": _hash(template),
        "processor": f"{type(processor).__name__} {_hash(_simple(vars(processor)))}",
        "tokenizer": f"{type(tokenizer).__name__} {_hash(_tokenizer(tokenizer))}",
        "image_processor": images and f"{type(images).__name__} {_hash(images.to_dict())}",
        "pillow": _version("pillow"),
        "torchvision": _version("torchvision"),
    }


def _tokenizer(tokenizer: Any) -> dict[str, Any]:
    """What decides token ids. Padding and truncation are left out: each call sets them."""
    own = ("add_bos_token", "add_eos_token", "clean_up_tokenization_spaces")
    named = {"special": tokenizer.special_tokens_map} | {name: getattr(tokenizer, name, None) for name in own}
    if not tokenizer.is_fast:
        return named | {"vocabulary": tokenizer.get_vocab()}
    whole = json.loads(tokenizer.backend_tokenizer.to_str())
    return named | {part: value for part, value in whole.items() if part not in ("padding", "truncation")}


def _simple(settings: dict[str, Any]) -> dict[str, Any]:
    """Numbers and words alone: the parts of a processor stand for themselves."""
    kept = (str, int, float, bool, type(None))
    return {name: value for name, value in settings.items() if isinstance(value, kept) and name != "chat_template"}


def _hash(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:12]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _marks(model: PreTrainedModel) -> list[Any]:
    """What changes with the weights, without a look at them: which tensors, where they lie, how often they were set."""
    return [*((id(one), _address(one), one._version) for one in model.parameters()), *_adapters(model)]


def _address(parameter: Tensor) -> int:
    try:
        return parameter.data_ptr()
    except RuntimeError:  # of a tensor that wraps others
        return 0


def _adapters(model: PreTrainedModel) -> Iterator[list[str]]:
    """Of each layer with adapters: which are there and in use, and with which weight."""
    if "peft" not in sys.modules:
        return
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in model.named_modules():
        if isinstance(module, BaseTunerLayer):
            scaling = getattr(module, "scaling", {})
            used = {adapter: scaling.get(adapter, 1.0) for adapter in module.active_adapters}
            yield [name, type(module).__name__, str(used), str(module.disable_adapters), str(module.merged_adapters)]


def _offloaded(model: PreTrainedModel, name: str) -> Tensor:
    """A weight that accelerate keeps in memory or on disk until its module runs."""
    path, _, own = name.rpartition(".")
    hook = getattr(model.get_submodule(path), "_hf_hook", None)
    maps = [getattr(one, "weights_map", None) for one in getattr(hook, "hooks", [hook])]
    return next(weights[own] for weights in maps if weights is not None)

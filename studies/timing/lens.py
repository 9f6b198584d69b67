"""The same with TransformerLens, where it is installed: a cache by name, and functions at a hook while it generates."""

import copy
from collections.abc import Sequence
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from interv import Prompt
from studies.timing.models import Contestants, twin


def takes(on: Contestants) -> bool:
    """Whether it is installed and has the model's family; 4.3 has LLaVA's and not Qwen2-VL's."""
    if find_spec("transformer_lens") is None:
        return False
    from transformer_lens.factories.architecture_adapter_factory import SUPPORTED_ARCHITECTURES

    return type(on.vlm.model).__name__ in SUPPORTED_ARCHITECTURES


def booted(on: Contestants) -> Any:
    """TransformerLens' bridge around a copy of the model that shares its weights.

    For a model with images it would install torchvision, and another torch with it, into the environment that is
    running; its processor is not needed here.
    """
    from transformer_lens.model_bridge import TransformerBridge
    from transformer_lens.model_bridge.sources.transformers import helpers

    model: Any = twin(on.vlm.model)
    model.config.architectures = [type(model).__name__]
    with TemporaryDirectory() as folder, patch.object(helpers, "_ensure_torchvision", lambda: False):
        model.config.save_pretrained(folder)
        return TransformerBridge.boot_transformers(
            folder, hf_model=model, tokenizer=copy.deepcopy(on.vlm.processor.tokenizer), device=str(model.device)
        )


def given(on: Contestants, prompts: Sequence[Prompt]) -> tuple[Tensor, dict[str, Tensor]]:
    """Token ids, and what else TransformerLens passes on to the model."""
    inputs = on.vlm.encode(prompts).model_inputs()
    return inputs.pop("input_ids"), {name: value for name, value in inputs.items() if name != "position_ids"}


def cached(bridge: Any, inputs: tuple[Tensor, dict[str, Tensor]], names: list[str] | None) -> Any:
    ids, more = inputs
    chosen = {} if names is None else {"names_filter": names}
    with torch.no_grad():
        return bridge.run_with_cache(ids, **chosen, **more)[1]


def steered(
    bridge: Any, inputs: tuple[Tensor, dict[str, Tensor]], name: str, vector: Tensor, tokens: int
) -> list[list[int]]:
    """Greedy tokens with the vector added at this name: to the last prompt token, and to every generated one."""
    ids, more = inputs

    def add(value: Tensor, hook: Any) -> Tensor:
        value = value.clone()
        value[:, -1] += vector
        return value

    with torch.no_grad(), bridge.hooks(fwd_hooks=[(name, add)]):
        output = bridge.original_model.generate(input_ids=ids, **more, max_new_tokens=tokens, do_sample=False)
    return output[:, ids.shape[1] :].tolist()

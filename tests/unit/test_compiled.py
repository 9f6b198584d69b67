"""Compiled models are read and steered as others are. The backend runs what it is given, so compiling takes no time."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from interv import VLM, Add, Site
from tests.property.cases import Case
from tests.property.reference import own_inputs
from tests.tiny_models import tiny_llava, tiny_qwen2vl


def push(vlm: VLM, number: int = 0, scope: str = "response") -> Add:
    return Add(Site(1), torch.randn(vlm.d_model, generator=torch.Generator().manual_seed(number)), scope, 2.0)


def steered(vlm: VLM) -> list:
    return vlm.generate(Case().prompts()[:1], [push(vlm)], max_new_tokens=3).token_ids


def read(vlm: VLM) -> list:
    return vlm.capture(Case().prompts()[:1], [Site(0)])[Site(0)].tolist()


def plain(vlm: VLM) -> list:
    return vlm.generate(Case().prompts()[:1], max_new_tokens=3).token_ids


def by_hooks(vlm: VLM, number: int = 0) -> list:
    with vlm.installed([push(vlm, number)]):
        return own(vlm)


def own(vlm: VLM) -> list:
    inputs = own_inputs(vlm, Case().asks[:1])
    return vlm.model.generate(**inputs, do_sample=False, max_new_tokens=3, eos_token_id=[]).tolist()


@pytest.mark.parametrize("family", [tiny_llava, tiny_qwen2vl])
@pytest.mark.parametrize("part", ["", "model.language_model", "model.language_model.layers.1"])
@pytest.mark.parametrize("first", [steered, own])
def test_a_compiled_model_is_steered_from_the_first_call_on(family: Callable, part: str, first: Callable) -> None:
    vlm = VLM(*family())
    calls: list[Callable[[VLM], Any]] = [first, own, by_hooks, lambda vlm: by_hooks(vlm, 1), steered, read, plain, own]
    wanted = [call(vlm) for call in calls]
    ran = []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Callable:
        return lambda *args: ran.append(1) or graph(*args)

    module = vlm.model.get_submodule(part)
    torch.compiler.reset()
    module.compile(backend=backend)
    compiled = module._compiled_call_impl
    assert [call(vlm) for call in calls] == wanted
    assert ran, "plain calls stay compiled"
    assert module._compiled_call_impl is compiled


def test_contexts_that_end_in_another_order_put_the_compiled_call_back() -> None:
    vlm = VLM(*tiny_llava())
    vlm.model.compile(backend="eager")
    compiled = vlm.model._compiled_call_impl
    first, second = vlm.installed([push(vlm)]), vlm.installed([push(vlm, 1)])
    first.__enter__()
    second.__enter__()
    own(vlm)
    first.__exit__(None, None, None)
    assert vlm.model._compiled_call_impl is None
    second.__exit__(None, None, None)
    assert vlm.model._compiled_call_impl is compiled

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
    return vlm.generate(Case().prompts()[:1], [push(vlm, scope="all")], max_new_tokens=3).token_ids


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


@pytest.mark.slow
def test_a_compiled_model_is_steered_from_the_first_call_on() -> None:
    vlm = VLM(*tiny_llava())
    calls: list[Callable[[VLM], Any]] = [steered, read, by_hooks, own, by_hooks, lambda vlm: by_hooks(vlm, 1), steered]
    wanted = [call(vlm) for call in calls]
    again, ran = VLM(*tiny_llava()), []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Callable:
        return lambda *args: ran.append(1) or graph(*args)

    again.model.compile(backend=backend)
    assert [call(again) for call in calls] == wanted
    assert ran, "plain calls stay compiled"


@pytest.mark.parametrize("family", [tiny_llava, tiny_qwen2vl])
@pytest.mark.parametrize("part", ["", "model.language_model", "model.language_model.layers.1"])
def test_only_what_is_looked_into_is_run_as_written(family: Callable, part: str) -> None:
    """What stands for a compiled call here says that it ran, and passes over hooks as one does."""
    vlm, ran = VLM(*family()), []
    module = vlm.model.get_submodule(part)
    wanted, plain_reply = [steered(vlm), by_hooks(vlm), read(vlm)], plain(vlm)
    module._compiled_call_impl = lambda *args, **named: ran.append(1) or module.forward(*args, **named)
    assert [steered(vlm), by_hooks(vlm)] == wanted[:2]
    assert not ran
    assert [read(vlm), plain(vlm)] == [wanted[2], plain_reply]
    assert ran


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

"""Law 8: after any call, also one that raised, the model has no hook left and gives its old logits."""

import gc
from collections.abc import Callable
from typing import Any

import psutil
import pytest
import torch
from hypothesis import given
from torch import Tensor

from interv import VLM, Add, Capture, Site
from tests.property import places
from tests.property.cases import Case, cases
from tests.property.reference import bitwise, from_scratch, full_pass, own_inputs


class Planted(Exception):
    """Raised inside a run, to see what it leaves behind."""


def hooks_of(vlm: VLM) -> int:
    """All hooks on all modules."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(module, kind)) for module in vlm.model.modules() for kind in kinds)


def own_logits(vlm: VLM, case: Case) -> Tensor:
    return full_pass(vlm, Case(case.asks[:1], ()), 0).logits


def check_nothing_stays(vlm: VLM, case: Case) -> None:
    before, hooks, settings = own_logits(vlm, case), hooks_of(vlm), dict(vars(vlm.model))
    ops = case.ops(vlm)
    calls: list[Callable[[], Any]] = [
        lambda: case.answer(vlm),
        lambda: vlm.prefill(case.prompts(), reads=[Site(0)]),
        lambda: vlm.capture(case.prompts(), [Site(0)], tokens="all"),
        lambda: _installed(vlm, case, ops),
        lambda: _raising(lambda: _fails_in_the_model(vlm, case)),
        lambda: _raising(lambda: _fails_in_an_op(vlm, case)),
        lambda: _raising(lambda: _fails_among_hooks(vlm, case, ops)),
    ]
    for call in calls:
        call()
        assert hooks_of(vlm) == hooks
        assert dict(vars(vlm.model)).keys() == settings.keys()
        assert vlm.model.generate == settings.get("generate", vlm.model.generate)
        bitwise(own_logits(vlm, case), before)


def _installed(vlm: VLM, case: Case, ops: list) -> None:
    with vlm.installed(ops):
        from_scratch(vlm, case)


def _raising(call: Callable[[], Any]) -> None:
    with pytest.raises((Planted, ValueError)):
        call()


def _fails_in_the_model(vlm: VLM, case: Case) -> None:
    """A module in the upper half raises in the middle of decoding."""
    countdown = iter([False, False, True])

    def hook(*_: Any) -> None:
        if next(countdown, False):
            raise Planted

    handle = vlm.model.get_submodule(f"{places.BLOCKS}.{vlm.n_layers - 1}").register_forward_hook(hook)
    try:
        vlm.generate(case.prompts(), [*case.ops(vlm), Capture(Site(0), "all")], max_new_tokens=4, eos_token_id=[])
    finally:
        handle.remove()


def _fails_in_an_op(vlm: VLM, case: Case) -> None:
    """A module path has no known width, so a wrong vector is found out inside the run."""
    narrow = Add(Site.parse(f"{places.BLOCKS}.1.mlp"), torch.ones(3))
    vlm.generate(case.prompts(), [*case.ops(vlm), narrow], max_new_tokens=4)


def _fails_among_hooks(vlm: VLM, case: Case, ops: list) -> None:
    with vlm.installed(ops):
        vlm.model(**own_inputs(vlm, case.asks))
        raise Planted


def check_many_runs_leave_nothing(vlm: VLM, runs: int) -> None:
    """Neither hooks nor tensors nor memory grow with the number of calls."""
    case = Case(tokens=3)

    def run(times: int) -> tuple[int, int, int]:
        for _ in range(times):
            case.answer(vlm)
        gc.collect()
        tensors = sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())
        return hooks_of(vlm), tensors, psutil.Process().memory_info().rss

    hooks, tensors, memory = run(10)
    after = run(runs)
    assert after[0] == hooks
    assert after[1] <= tensors
    assert after[2] - memory < 2**24, f"{(after[2] - memory) / 2**20:.0f} MiB more after {runs} runs"


@given(case=cases())
def test_nothing_stays(vlm: VLM, case: Case) -> None:
    check_nothing_stays(vlm, case)


@pytest.mark.slow
def test_many_runs_leave_nothing(vlm: VLM, thorough: bool) -> None:
    check_many_runs_leave_nothing(vlm, 1000 if thorough else 60)


def test_an_exception_of_an_op_keeps_its_type_and_message(vlm: VLM) -> None:
    with pytest.raises(ValueError, match=r"width 3; there the hidden state has \d+"):
        _fails_in_an_op(vlm, Case())

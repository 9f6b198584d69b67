"""Faults in which tokens are steered."""

from typing import Any

import pytest
import torch
from torch import Tensor

import interv.ops.op
import interv.places.scope
import interv.prompts.encoding
import interv.running.hooks
import interv.running.plan
import interv.running.prefill
import interv.vlm
from interv.places.scope import Step
from interv.running.hooks import _Cursor
from interv.running.plan import Plan
from tests.mutation.faults import around, fault


@fault("off by one at the last prompt token", "2 the change at the site is exact", "11 capture equals hidden states")
def _(patch: pytest.MonkeyPatch) -> None:
    for module in (interv.places.scope, interv.running.hooks):
        around(patch, module, "last_position", lambda last, mask: last(mask) - 1)


@fault("the last column taken for the last prompt token", "4 right padding changes no row")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(interv.running.hooks, "last_position", lambda mask: torch.full((len(mask),), mask.shape[1] - 1))


@fault("scope counted inside the chunk", "7 ... through hooks", "6 hooks from the start, the same reply")
def _(patch: pytest.MonkeyPatch) -> None:
    around(patch, _Cursor, "_step", lambda step, cursor, ids, start, prompt: step(cursor, ids, 0, prompt))


@fault("image tokens shifted by one", "2 captures see the exact change", "5 prefill and decode equal full passes")
def _(patch: pytest.MonkeyPatch) -> None:
    of_prompt = Step.of_prompt
    wrong = lambda mask, image, *, last=True: of_prompt(mask, image.roll(1, 1), last=last)  # noqa: E731
    patch.setattr(Step, "of_prompt", wrong)


@fault("decode op never applied", "5 prefill and decode equal full passes", "7 a scope takes in its tokens")
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(visit: Any, plan: Plan, indices: list[int], step_at: Any, hidden: Tensor, count: int) -> Tensor:
        if hidden.ndim == 3 and hidden.shape[1] == 1 and count > 0:
            plan.touched.update(indices)
            return hidden
        return visit(plan, indices, step_at, hidden, count)

    around(patch, Plan, "_visit", wrong)


@fault(
    "decode op applied at the first step alone",
    "5 prefill and decode equal full passes",
    "7 a scope takes in its tokens",
)
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(visit: Any, plan: Plan, indices: list[int], step_at: Any, hidden: Tensor, count: int) -> Tensor:
        return hidden if count > 1 else visit(plan, indices, step_at, hidden, count)

    around(patch, Plan, "_visit", wrong)


@fault(
    "the first generated token never steered",
    "7 response changes the first token",
    "5 prefill and decode equal full passes",
)
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(interv.places.scope._KINDS, "response", ("generated",))


@fault(
    "generated includes the last prompt token",
    "7 generated leaves the first token",
    "5 prefill and decode equal full passes",
)
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(interv.places.scope._KINDS, "generated", ("last_prompt", "generated"))


@fault("all stops at the end of the prompt", "7 a scope takes in its tokens", "5 prefill and decode equal full passes")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(interv.places.scope._KINDS, "all", ("prompt",))


@fault("the last prompt token read twice", "11 captured while generating")
def _(patch: pytest.MonkeyPatch) -> None:
    around(patch, interv.vlm, "prompt_step", lambda step, encoded, *, last=True: step(encoded))

"""Faults in the change itself and in where it is made."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

import interv.ops.edits
import interv.ops.op
import interv.places.scope
import interv.prompts.encoding
import interv.running.hooks
import interv.running.plan
import interv.running.prefill
import interv.vlm
from interv.ops.edits import Add
from interv.places.layouts import Layout
from interv.places.scope import Step
from interv.running.plan import Plan
from tests.mutation.faults import around, fault


@fault("strength dropped", "1 zero strength changes nothing", "2 the change at the site is exact")
def _(patch: pytest.MonkeyPatch) -> None:
    around(patch, Add, "change", lambda change, op, hidden: change(replace(op, strength=1.0), hidden))


@fault("row 0's vector for all rows", "4 a row equals its prompt alone", "5 prefill and decode equal full passes")
def _(patch: pytest.MonkeyPatch) -> None:
    around(
        patch,
        interv.ops.edits,
        "_spread",
        lambda spread, rows, hidden: spread(rows[:1] if rows.ndim == 2 else rows, hidden),
    )


@fault("row 0's strength for all rows", "4 a row equals its prompt alone", "2 captures see the exact change")
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(change: Any, op: Add, hidden: Tensor) -> Tensor:
        number = op.strength
        return change(replace(op, strength=float(number[0]) if isinstance(number, Tensor) else number), hidden)

    around(patch, Add, "change", wrong)


@fault("vector not cast to the hidden state's precision", "5 ... in bfloat16")
def _(patch: pytest.MonkeyPatch) -> None:
    around(patch, interv.ops.edits, "_spread", lambda spread, rows, hidden: spread(rows, hidden.float()))


@fault("sum rounded twice in half precision", "5 ... in bfloat16")
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(change: Any, op: Add, hidden: Tensor) -> Tensor:
        return change(replace(op, vector=op.vector.to(torch.bfloat16).to(op.vector)), hidden)

    around(patch, Add, "change", wrong)


@fault(
    "the change leaks to every token of a row",
    "2 the change at the site is exact",
    "5 prefill and decode equal full passes",
)
def _(patch: pytest.MonkeyPatch) -> None:
    around(
        patch, Step, "where", lambda where, step, scope: where(step, scope).any(1, keepdim=True).expand_as(step.prompt)
    )


@fault("padding counted as tokens", "2 the change at the site is exact", "7 a scope takes in its tokens")
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(where: Any, step: Step, scope: Any) -> Tensor:
        padded = ~(step.prompt | step.last_prompt | step.generated)
        return where(step, scope) | padded if scope == "all" else where(step, scope)

    around(patch, Step, "where", wrong)


# ---- where ----


@fault("op on the next block", "5 prefill and decode equal full passes", "11 capture equals hidden states")
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(locate: Any, layout: Layout, site: Any) -> Any:
        return locate(layout, replace(site, layer=site.layer + 1) if site.layer in (0, 1) else site)

    around(patch, Layout, "locate", wrong)


@fault("output taken for input", "5 prefill and decode equal full passes", "11 capture equals a hook")
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(locate: Any, layout: Layout, site: Any) -> Any:
        return locate(layout, replace(site, hook="hook_resid_post") if site.hook == "hook_resid_pre" else site)

    around(patch, Layout, "locate", wrong)


@fault("the middle of the residual stream reaches the MLP alone", "5 prefill and decode equal full passes")
def _(patch: pytest.MonkeyPatch) -> None:
    around(patch, Layout, "in_stream", lambda in_stream, layout, site: False)


@fault("two ops at one site swapped", "3 ops at one site apply in list order", "3 ... through hooks")
def _(patch: pytest.MonkeyPatch) -> None:
    around(patch, Plan, "_visit", lambda visit, plan, indices, *rest: visit(plan, indices[::-1], *rest))


@fault(
    "only the last op at a site applies",
    "3 ops at one site apply in list order",
    "5 prefill and decode equal full passes",
)
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(visit: Any, plan: Plan, indices: list[int], *rest: Any) -> Tensor:
        plan.touched.update(indices)
        return visit(plan, indices[-1:], *rest)

    around(patch, Plan, "_visit", wrong)


@fault("ops of a site lost where another site's op stands between", "3 order across sites decides nothing")
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(plan: Plan, step_at: Any) -> Any:
        groups: dict[Any, list[int]] = {}
        for index, op in enumerate(plan.ops):
            location = plan.layout.locate(op.site)
            if index == 0 or location != plan.layout.locate(plan.ops[index - 1].site):
                groups[location] = []
            groups[location].append(index)
        plan.touched.update(range(len(plan.ops)))
        return {location: partial(plan._visit, indices, step_at) for location, indices in groups.items()}

    patch.setattr(Plan, "visits", wrong)

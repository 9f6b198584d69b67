"""Law 1: strength 0 gives bitwise the logits and tokens of the unsteered model."""

from dataclasses import replace

import torch
from hypothesis import given

from interv import VLM
from tests.property.cases import Case, cases
from tests.property.reference import bitwise, own_inputs


def check_zero_strength_changes_nothing(vlm: VLM, case: Case) -> None:
    silent = replace(case, pushes=tuple(replace(push, kind="add", strength=0.0) for push in case.pushes))
    plain, zero = case.answer(vlm, []), silent.answer(vlm)
    assert zero.token_ids == plain.token_ids
    bitwise(zero.logits, plain.logits)


def check_zero_strength_changes_nothing_through_hooks(vlm: VLM, case: Case) -> None:
    silent = [replace(push, kind="add", strength=0.0) for push in case.pushes]
    inputs = own_inputs(vlm, case.asks, "right")
    with torch.no_grad():
        plain = vlm.model(**inputs).logits
        with vlm.installed([push.op(vlm, len(case.asks)) for push in silent]):
            bitwise(vlm.model(**inputs).logits, plain)


@given(case=cases())
def test_zero_strength_changes_nothing(vlm: VLM, case: Case) -> None:
    check_zero_strength_changes_nothing(vlm, case)


@given(case=cases(scopes=("all", "prompt", "last_prompt", "response")))
def test_zero_strength_changes_nothing_through_hooks(vlm: VLM, case: Case) -> None:
    check_zero_strength_changes_nothing_through_hooks(vlm, case)

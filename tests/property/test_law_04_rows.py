"""Law 4: row i of a batch equals prompt i alone, whatever stands in the other rows and on whichever side is padded."""

from dataclasses import replace

import torch
from hypothesis import given

from interv import VLM
from tests.property.cases import Ask, Case, Push, cases, image_pushes
from tests.property.reference import bitwise, close, full_pass, own_inputs, same_reply
from tests.property.test_law_02_exact_change import PROMPT_ONLY


def check_row_equals_prompt_alone(vlm: VLM, case: Case) -> None:
    together, rows = case.answer(vlm), len(case.asks)
    for row in range(rows):
        alone = case.row(row).answer(vlm, [push.alone(vlm, row, rows) for push in case.pushes])
        same_reply(together.token_ids[row], together.logits[row], alone.token_ids[0], alone.logits[0])


def check_right_padding_changes_no_row(vlm: VLM, case: Case) -> None:
    """The model's own forward on rows padded on the right, steered through installed hooks."""
    inputs = own_inputs(vlm, case.asks, "right")
    with vlm.installed(case.ops(vlm)), torch.no_grad():
        logits = vlm.model(**inputs).logits
    for row, mask in enumerate(inputs["attention_mask"].bool()):
        close(logits[row][mask], full_pass(vlm, case, row).logits[0])


def check_sixteen_rows_equal_sixteen_runs(vlm: VLM) -> None:
    """Questions of 1 to 46 tokens, no image to two, of seven sizes; every row with its own vector and strength."""
    sides = (28, 40, 56, 84)
    asks = tuple(
        Ask("word " * (row // 2) + "x" * (row % 3 + 1), ((sides[row % 4], sides[row // 4]),) * (row % 3), row)
        for row in range(16)
    )
    case = Case(asks, (Push(strength=0.5, rowwise=(True, True)), Push("hook_mlp_out", 0, rowwise=(True, True))), 6)
    check_row_equals_prompt_alone(vlm, case)


@given(case=cases(rows=(2, 4)))
def test_row_equals_prompt_alone(vlm: VLM, case: Case) -> None:
    check_row_equals_prompt_alone(vlm, case)


@given(case=cases(rows=(2, 4), scopes=PROMPT_ONLY))
def test_right_padding_changes_no_row(vlm: VLM, case: Case) -> None:
    check_right_padding_changes_no_row(vlm, case)


def test_sixteen_mixed_rows_equal_sixteen_runs(vlm: VLM) -> None:
    check_sixteen_rows_equal_sixteen_runs(vlm)


@given(case=cases(rows=(2, 3), with_images=True), push=image_pushes())
def test_rows_with_steered_images_equal_prompts_alone(vlm: VLM, case: Case, push: Push) -> None:
    check_row_equals_prompt_alone(vlm, replace(case, pushes=(push,)))


@given(case=cases(rows=(2, 3), ops=(1, 2), scopes=("response", "generated", "last_prompt")))
def test_rows_repeat_in_any_order_behind_one_prefill(vlm: VLM, case: Case) -> None:
    check_selected_rows_are_the_rows(vlm, case)


def check_selected_rows_are_the_rows(vlm: VLM, case: Case) -> None:
    order = [len(case.asks) - 1, 0, 0]
    shared = replace(case, pushes=tuple(replace(push, rowwise=(False, False)) for push in case.pushes))
    ops = shared.ops(vlm)
    prefill = vlm.prefill(case.prompts())
    options = {"max_new_tokens": case.tokens, "logits": True, "eos_token_id": []}
    whole, chosen = vlm.generate(prefill, ops, **options), vlm.generate(prefill.select(order), ops, **options)
    for place, row in enumerate(order):
        same_reply(chosen.token_ids[place], chosen.logits[place], whole.token_ids[row], whole.logits[row])
    again = vlm.generate(prefill, ops, **options)
    bitwise(again.logits, whole.logits)

"""Law 2: at an op's site its formula on the scope's tokens, exactly, and nothing at all elsewhere."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from interv import VLM
from tests.property.cases import Case, Push, cases, image_pushes
from tests.property.reference import bitwise, close, hooked, own_inputs, own_scope

PROMPT_ONLY = ("all", "prompt", "image", "last_prompt", "response")


def recorded(vlm: VLM, push: Push, inputs: dict[str, Tensor]) -> Tensor:
    """What passes at the place, after all other hooks."""
    place, kept = push.where(vlm), []
    with hooked(vlm, place.path, place.side, lambda hidden: kept.append(hidden.clone())), torch.no_grad():
        vlm.model(**inputs)
    return kept[0]


def check_change_at_the_site_is_exact(vlm: VLM, case: Case, side: str = "right") -> None:
    """Through installed hooks, read by a hook that comes behind them; the other heads are elsewhere too."""
    push, rows = case.pushes[0], len(case.asks)
    place = push.where(vlm)
    inputs = own_inputs(vlm, case.asks, side)
    before = recorded(vlm, push, inputs)
    with vlm.installed([push.op(vlm, rows)]):
        after = recorded(vlm, push, inputs)
    bitwise(place.put(after, place.take(before)), before)
    if not place.sees_tokens:
        bitwise(place.take(after), push.by_hand(vlm, 0, rows, place.take(before)))
        return
    for row, kept in enumerate(inputs["attention_mask"].bool()):
        scope = own_scope(vlm, push.scope, inputs["input_ids"][row][kept], int(kept.sum()))
        states = place.take(before[row][kept]), place.take(after[row][kept])
        _compare(vlm, push, row, rows, states, scope)
        bitwise(after[row][~kept], before[row][~kept])


def check_captures_see_the_exact_change(vlm: VLM, case: Case) -> None:
    """Through a trace, read by captures before and after the op."""
    push, rows = case.pushes[0], len(case.asks)
    site = push.where(vlm).site
    before = vlm.capture(case.prompts(), [site], tokens="all")[site]
    after = vlm.capture(case.prompts(), [site], tokens="all", ops=[push.op(vlm, rows)])[site]
    if not push.where(vlm).sees_tokens:
        bitwise(after, push.by_hand(vlm, 0, rows, before))
        return
    for row, ask in enumerate(case.asks):
        ids = own_inputs(vlm, [ask])["input_ids"][0]
        _compare(vlm, push, row, rows, (before[row], after[row]), own_scope(vlm, push.scope, ids, len(ids)))


def _compare(vlm: VLM, push: Push, row: int, rows: int, states: tuple[Tensor, Tensor], scope: Tensor) -> None:
    before, after = states
    assert len(before) == len(scope)
    (bitwise if push.kind == "add" else close)(after[scope], push.by_hand(vlm, row, rows, before)[scope])
    bitwise(after[~scope], before[~scope])


@given(case=cases(ops=(1, 1), scopes=PROMPT_ONLY, with_images=True), side=st.sampled_from(("left", "right")))
def test_change_at_the_site_is_exact(vlm: VLM, case: Case, side: str) -> None:

    check_change_at_the_site_is_exact(vlm, case, side)


@given(case=cases(ops=(1, 1), scopes=PROMPT_ONLY, with_images=True))
def test_captures_see_the_exact_change(vlm: VLM, case: Case) -> None:
    check_captures_see_the_exact_change(vlm, case)


@given(case=cases(ops=(1, 1), with_images=True), push=image_pushes())
def test_change_among_image_patches_is_exact(vlm: VLM, case: Case, push: Push) -> None:
    check_change_at_the_site_is_exact(vlm, Case(case.asks, (push,)))
    check_captures_see_the_exact_change(vlm, Case(case.asks, (push,)))

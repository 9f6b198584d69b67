"""Law 3: the order of the list of ops decides nothing, except between ops at one site, which apply in list order."""

from dataclasses import replace
from random import Random

import torch
from hypothesis import given
from hypothesis import strategies as st

from interv import VLM, Capture
from tests.property.cases import HEAD_PLACES, HOOK_PLACES, Case, Push, asks, cases, pushes
from tests.property.reference import bitwise, close, full_pass, hooked, own_inputs


def check_order_across_sites_decides_nothing(vlm: VLM, case: Case, seed: int = 0) -> None:
    """All interleavings of the sites that keep each site's own order."""
    queues: dict[tuple[str, str], list[Push]] = {}
    for push in case.pushes:
        place = push.where(vlm)
        queues.setdefault((place.path, place.side), []).append(push)
    slots = [location for location, queue in queues.items() for _ in queue]
    Random(seed).shuffle(slots)
    shuffled = [queues[location].pop(0) for location in slots]
    one, other = case.answer(vlm), replace(case, pushes=tuple(shuffled)).answer(vlm)
    assert one.token_ids == other.token_ids
    bitwise(other.logits, one.logits)


def check_ops_at_one_site_apply_in_list_order(vlm: VLM, case: Case) -> None:
    """Captures between the ops read each state; the model goes on with the last."""
    rows = len(case.asks)
    site = case.pushes[0].where(vlm).site
    ops = [Capture(site)]
    for push in case.pushes:
        ops += [push.op(vlm, rows), Capture(site)]
    replies = vlm.generate(case.prompts(), ops, max_new_tokens=1, logits=True)
    states = [replies.captured[op] for op in ops[::2]]
    for push, before, after in zip(case.pushes, states, states[1:], strict=False):
        for row in range(rows):
            close(after[row], push.by_hand(vlm, row, rows, before[row][None])[0])
    for row in range(rows):
        close(replies.logits[row, 0], full_pass(vlm, case, row).logits[0, -1])
        bitwise(states[0], vlm.generate(case.prompts(), [Capture(site)], max_new_tokens=1).captured.popitem()[1])


def check_installed_ops_at_one_site_apply_in_list_order(vlm: VLM, case: Case) -> None:
    rows, place, kept = len(case.asks), case.pushes[0].where(vlm), []
    with torch.no_grad():
        for ops in ([], case.ops(vlm)):
            watch = hooked(vlm, place.path, place.side, lambda hidden: kept.append(hidden.clone()))
            with vlm.installed(ops), watch:
                vlm.model(**own_inputs(vlm, case.asks))
    state, steered = kept
    for row in range(rows):
        expected = place.take(state[row, -1:])
        for push in case.pushes:
            expected = push.by_hand(vlm, row, rows, expected)
        close(place.take(steered[row, -1]), expected[0])


@given(case=cases(ops=(2, 5)), seed=st.integers(0, 99))
def test_order_across_sites_decides_nothing(vlm: VLM, case: Case, seed: int) -> None:
    check_order_across_sites_decides_nothing(vlm, case, seed)


@st.composite
def at_one_site(draw: st.DrawFn) -> Case:
    kinds = ("add", "scale", "replace", "project", "renormalise")
    drawn = draw(st.lists(pushes((*HOOK_PLACES, *HEAD_PLACES), ("response",), kinds), min_size=2, max_size=4))
    first = drawn[0]
    same = tuple(replace(push, place=first.place, layer=first.layer) for push in drawn)
    return Case(tuple(draw(st.lists(asks(), min_size=1, max_size=2))), same)


@given(case=at_one_site())
def test_ops_at_one_site_apply_in_list_order(vlm: VLM, case: Case) -> None:
    check_ops_at_one_site_apply_in_list_order(vlm, case)
    check_installed_ops_at_one_site_apply_in_list_order(vlm, case)

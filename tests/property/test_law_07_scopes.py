"""Law 7: which tokens each scope takes in, over prefill, replay and decoding, and what that does to the reply."""

from dataclasses import replace

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from interv import SCOPES, VLM
from tests.property.cases import Case, Push, asks, cases
from tests.property.places import HOOK_PLACES
from tests.property.reference import bitwise, from_scratch, hooked, own_inputs, own_scope

PLACE = "hook_mlp_out"  # stateless: what it would have put out unsteered can be worked out again from its input


def check_scope_takes_in_its_tokens(vlm: VLM, case: Case, through_hooks: bool = False) -> None:
    """Every forward of the run is watched from outside: which tokens changed, and by how much."""
    push, rows = case.pushes[0], len(case.asks)
    mlp = vlm.model.get_submodule(push.where(vlm).path)
    given_to, put_out = [], []
    inputs = own_inputs(vlm, case.asks)
    watch_input = hooked(vlm, push.where(vlm).path, "input", lambda hidden: given_to.append(hidden.clone()))
    if through_hooks:
        watch_output = hooked(vlm, push.where(vlm).path, "output", lambda hidden: put_out.append(hidden.clone()))
        with vlm.installed(case.ops(vlm)), watch_input, watch_output:
            tokens, _ = from_scratch(vlm, case)
    else:
        watch_output = hooked(vlm, push.where(vlm).path, "output", lambda hidden: put_out.append(hidden.clone()))
        with watch_input, watch_output:
            tokens = case.answer(vlm).token_ids
    with torch.no_grad():  # in the shapes of the run: a matrix product rounds by its shape
        unsteered = [_mlp(mlp, hidden) for hidden in given_to]
    if not through_hooks and put_out[0].shape[1] > 1:  # the prompt's last token ran again: that time counts
        unsteered[0], put_out[0] = unsteered[0][:, :-1], put_out[0][:, :-1]
    ids = torch.cat([inputs["input_ids"], torch.tensor(tokens)[:, :-1]], 1)  # the last new token is not fed back
    plain, steered = torch.cat(unsteered, 1), torch.cat(put_out, 1)
    left_out = ids.shape[1] - steered.shape[1]  # the last block need not run for tokens that no op sees there
    if left_out:
        assert not through_hooks
        assert push.layer % vlm.n_layers == vlm.n_layers - 1
        assert left_out == inputs["input_ids"].shape[1] - 1
    for row in range(rows):
        start = int(inputs["attention_mask"][row].argmax())
        scope = own_scope(vlm, push.scope, ids[row, start:], inputs["input_ids"].shape[1] - start)
        assert not scope[: max(left_out - start, 0)].any()
        start, scope = max(start - left_out, 0), scope[max(left_out - start, 0) :]
        changed = push.by_hand(vlm, row, rows, plain[row, start:])
        bitwise(steered[row, start:], torch.where(scope[:, None], changed, plain[row, start:]))
        bitwise(steered[row, :start], plain[row, :start])


def _mlp(module: torch.nn.Module, hidden: Tensor) -> Tensor:
    return type(module).forward(module, hidden)  # without the hooks


def check_generated_leaves_the_first_token(vlm: VLM, case: Case) -> None:
    """Bitwise the same first logits, and other ones after it."""
    plain = case.answer(vlm, [])
    later = replace(case, pushes=tuple(replace(push, scope="generated", strength=3.0) for push in case.pushes))
    steered = later.answer(vlm)
    bitwise(steered.logits[:, 0], plain.logits[:, 0])
    assert [ids[0] for ids in steered.token_ids] == [ids[0] for ids in plain.token_ids]
    assert all((steered.logits[row, 1] != plain.logits[row, 1]).any() for row in range(len(case.asks)))


def check_response_changes_the_first_token(vlm: VLM, case: Case) -> None:
    plain = case.answer(vlm, [])
    first = replace(case, pushes=tuple(replace(push, scope="response", strength=3.0) for push in case.pushes))
    for logits in (first.answer(vlm).logits[:, 0], vlm.logits(case.prompts(), first.ops(vlm))):
        assert all((logits[row] != plain.logits[row, 0]).any() for row in range(len(case.asks)))


@st.composite
def one_scope(draw: st.DrawFn) -> Case:
    push = Push(PLACE, draw(st.integers(0, 7)), draw(st.sampled_from(SCOPES)), rowwise=(draw(st.booleans()), False))
    images = (1, 2) if push.scope == "image" else (0, 2)
    return Case(tuple(draw(st.lists(asks(images), min_size=1, max_size=3))), (push,), draw(st.integers(2, 5)))


@given(case=one_scope())
def test_scope_takes_in_its_tokens(vlm: VLM, case: Case) -> None:
    check_scope_takes_in_its_tokens(vlm, case)


@given(case=one_scope())
def test_scope_takes_in_its_tokens_through_hooks(vlm: VLM, case: Case) -> None:
    check_scope_takes_in_its_tokens(vlm, case, through_hooks=True)


@given(case=cases(ops=(1, 1), places=HOOK_PLACES, kinds=("add",)))
def test_generated_leaves_the_first_token(vlm: VLM, case: Case) -> None:
    check_generated_leaves_the_first_token(vlm, case)


@given(case=cases(ops=(1, 1), places=HOOK_PLACES, kinds=("add",)))
def test_response_changes_the_first_token(vlm: VLM, case: Case) -> None:
    check_response_changes_the_first_token(vlm, case)

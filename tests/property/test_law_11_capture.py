"""Law 11: what is captured is what transformers computes: `output_hidden_states`, or a plain forward hook."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from interv import SCOPES, VLM, Capture, Site
from tests.property.cases import Ask, Case, Push, asks, cases
from tests.property.places import BLOCKS, PLACES, Place
from tests.property.reference import bitwise, close, full_pass, hooked, own_inputs, own_scope

ASKS = st.lists(asks(), min_size=1, max_size=3).map(tuple)


def check_capture_equals_hidden_states(vlm: VLM, texts: tuple[Ask, ...]) -> None:
    """Every block at every prompt token; block l is entry l + 1, and the last entry has passed the final norm."""
    prompts = [ask.prompt() for ask in texts]
    sites = [Site(layer) for layer in range(vlm.n_layers)]
    captured = vlm.capture(prompts, sites, tokens="all")
    at_the_end = vlm.capture(prompts, sites)
    for row in range(len(texts)):
        expected = [state[0] for state in _hidden_states(vlm, texts[row])]
        for layer, site in enumerate(sites):
            close(captured[site][row], expected[layer])
            close(at_the_end[site][row], expected[layer][-1])


def _hidden_states(vlm: VLM, ask: Ask) -> list[Tensor]:
    last: list[Tensor] = []
    with hooked(vlm, f"{BLOCKS}.{vlm.n_layers - 1}", "output", last.append):
        output = full_pass(vlm, Case((ask,), ()), 0, output_hidden_states=True)
    return [*output.hidden_states[1:-1], last[0]]


def check_capture_equals_a_hook(vlm: VLM, ask: Ask, place: Place) -> None:
    """At every kind of place, for one prompt, to the bit."""
    seen: list[Tensor] = []
    with hooked(vlm, place.path, place.side, lambda hidden: seen.append(hidden.clone())):
        full_pass(vlm, Case((ask,), ()), 0)
    captured = vlm.capture([ask.prompt()], [place.site], tokens="all")[place.site]
    if place.sees_tokens:
        bitwise(captured[0], place.take(seen[0][0]))
    else:
        bitwise(captured, place.take(seen[0]))


def check_captured_tokens_are_those_asked_for(vlm: VLM, texts: tuple[Ask, ...]) -> None:
    """Scopes, single indices and a table of them, each against the whole prompt."""
    prompts, site = [ask.prompt() for ask in texts], Site(0)
    whole = vlm.capture(prompts, [site], tokens="all")[site]
    shortest = min(len(state) for state in whole)
    for scope in ("prompt", "image") if _all_show(texts) else ("prompt",):
        chosen = vlm.capture(prompts, [site], tokens=scope)[site]
        for row, ask in enumerate(texts):
            ids = own_inputs(vlm, [ask])["input_ids"][0]
            bitwise(chosen[row], whole[row][own_scope(vlm, scope, ids, len(ids))])
    for index in (0, -1, shortest - 1, -shortest):
        chosen = vlm.capture(prompts, [site], tokens=index)[site]
        bitwise(chosen, torch.stack([state[index] for state in whole]))
    table = torch.tensor([[0, -1, row % shortest] for row in range(len(texts))])
    chosen = vlm.capture(prompts, [site], tokens=table)[site]
    bitwise(chosen, torch.stack([state[indices] for state, indices in zip(whole, table, strict=True)]))


def _all_show(texts: tuple[Ask, ...]) -> bool:
    return all(ask.sizes for ask in texts)


def check_captured_while_generating(vlm: VLM, case: Case) -> None:
    """Over all steps, each scope gives the states that one full pass over prompt and reply gives."""
    site, rows = Site(0), len(case.asks)
    scopes = [scope for scope in SCOPES if scope != "image" or _all_show(case.asks)]
    ops = [*case.ops(vlm), *(Capture(site, scope) for scope in scopes)]
    replies = case.answer(vlm, ops)
    for op in ops[-len(scopes) :]:
        for row in range(rows):
            asked, fed_back = own_inputs(vlm, [case.asks[row]])["input_ids"][0], replies.token_ids[row][:-1]
            scope = own_scope(vlm, op.scope, torch.cat([asked, torch.tensor(fed_back)]), len(asked))
            got = replies.captured[op][row]
            expected = _left_the_first_block(vlm, case, row, fed_back)[scope]
            close(got if op.scope != "last_prompt" else got[None], expected)


def _left_the_first_block(vlm: VLM, case: Case, row: int, reply: list[int]) -> Tensor:
    seen: list[Tensor] = []
    block = vlm.model.get_submodule(f"{BLOCKS}.0")
    handle = block.register_forward_hook(
        lambda module, args, output: seen.append(output if isinstance(output, Tensor) else output[0])
    )
    full_pass(vlm, case, row, reply)
    handle.remove()
    return seen[0][0]


def check_captures_are_copies(vlm: VLM) -> None:
    """What was captured before an op stays as it was, though the op changes the state where it lies."""
    case = Case(pushes=(Push("hook_resid_mid", 0, "all"),))
    site = case.pushes[0].where(vlm).site
    before = vlm.capture(case.prompts(), [site], tokens="all")[site]
    capture = Capture(site, "last_prompt")
    replies = case.answer(vlm, [capture, *case.ops(vlm)])
    close(replies.captured[capture], torch.stack([state[-1] for state in before]))


@given(texts=ASKS)
def test_capture_equals_hidden_states(vlm: VLM, texts: tuple[Ask, ...]) -> None:
    check_capture_equals_hidden_states(vlm, texts)


@given(ask=asks((1, 2)), name=st.sampled_from(sorted(PLACES)), layer=st.integers(0, 7))
def test_capture_equals_a_hook(vlm: VLM, ask: Ask, name: str, layer: int) -> None:
    check_capture_equals_a_hook(vlm, ask, PLACES[name](vlm, layer % vlm.n_layers))


@given(texts=ASKS)
def test_captured_tokens_are_those_asked_for(vlm: VLM, texts: tuple[Ask, ...]) -> None:
    check_captured_tokens_are_those_asked_for(vlm, texts)


@given(case=cases(places=("hook_resid_pre", "hook_attn_out", "mlp input"), kinds=("add",)))
def test_captured_while_generating(vlm: VLM, case: Case) -> None:
    check_captured_while_generating(vlm, case)


def test_captures_are_copies(vlm: VLM) -> None:
    check_captures_are_copies(vlm)

"""Law 5: one prefill replaces the second pass over the prompt, also after other batches have run."""

from collections.abc import Callable
from dataclasses import replace

import torch
from hypothesis import given
from torch import Tensor

from interv import VLM, Add, Site
from tests.property.cases import Case, cases
from tests.property.places import BLOCKS, VISION
from tests.property.reference import (
    bitwise,
    close,
    from_scratch,
    full_pass,
    hooked,
    loop_of_full_passes,
    own_inputs,
    same_reply,
)

RESPONSE = ("response", "generated", "last_prompt")


def check_one_prefill_equals_two_passes(vlm: VLM, case: Case) -> None:
    """A vector is read at the last prompt token of an upper layer and added at a lower one.

    The reference reads it in a pass of its own, and steers transformers' generate from the start, row by row.
    """
    reads, writes, scope = Site(vlm.n_layers - 2), Site(0), case.pushes[0].scope
    prefill = vlm.prefill(case.prompts(), reads=[reads])
    ops = [Add(writes, prefill.captured[reads], scope, 2.0)]
    replies = vlm.generate(prefill, ops, max_new_tokens=case.tokens, logits=True, eos_token_id=[])
    for row in range(len(case.asks)):
        alone = replace(case.row(row), pushes=())
        states = full_pass(vlm, alone, 0, output_hidden_states=True).hidden_states
        context = states[reads.layer + 1][0, -1]
        close(prefill.captured[reads][row], context)
        with hooked(vlm, f"{BLOCKS}.0", "output", _from_token(states[0].shape[1], scope, 2.0 * context)):
            tokens, logits = from_scratch(vlm, alone)
        same_reply(replies.token_ids[row], replies.logits[row], tokens[0], logits[0])


def _from_token(prompt: int, scope: str, shift: Tensor) -> Callable[[Tensor], Tensor]:
    seen: list[int] = []

    def change(hidden: Tensor) -> Tensor:
        position = torch.arange(hidden.shape[1]) + sum(seen)
        seen.append(hidden.shape[1])
        chosen = {"response": position >= prompt - 1, "generated": position >= prompt}
        return torch.where(chosen.get(scope, position == prompt - 1)[:, None], hidden + shift, hidden)

    return change


def check_prefill_outlives_other_batches(vlm: VLM, case: Case) -> None:
    """What the model remembers of the batch that ran last decides nothing, and a prefill is not used up."""
    prefill, ops = vlm.prefill(case.prompts()), case.ops(vlm)
    options = {"max_new_tokens": case.tokens, "logits": True, "eos_token_id": []}
    fresh = vlm.generate(prefill, ops, **options)
    vlm.generate([ask.prompt() for ask in case.asks[::-1]] * 2, max_new_tokens=2)
    with torch.no_grad():
        vlm.model(**own_inputs(vlm, case.asks[:1]))
    later = vlm.generate(prefill, ops, **options)
    bitwise(later.logits, fresh.logits)
    for row in range(len(case.asks)):
        same_reply(later.token_ids[row], later.logits[row], *loop_of_full_passes(vlm, case, row))


@given(case=cases(ops=(1, 1), scopes=RESPONSE))
def test_one_prefill_equals_two_passes(vlm: VLM, case: Case) -> None:
    check_one_prefill_equals_two_passes(vlm, case)


@given(case=cases())
def test_prefill_outlives_other_batches(vlm: VLM, case: Case) -> None:
    check_prefill_outlives_other_batches(vlm, case)


def test_no_scope_of_the_response_runs_the_prompt_again(vlm: VLM) -> None:
    """The vision tower runs once for a prefill and all that is decoded from it."""
    calls: list[Tensor] = []
    case = Case()
    tower = ".".join(VISION[vlm.model.config.model_type][0].split(".")[:2])
    handle = vlm.model.get_submodule(tower).register_forward_hook(lambda *args: calls.append(args))
    prefill = vlm.prefill(case.prompts())
    for scope in RESPONSE:
        ops = [replace(push, scope=scope).op(vlm, 2) for push in case.pushes]
        vlm.generate(prefill, ops, max_new_tokens=3, eos_token_id=[])
        vlm.generate(prefill, ops, max_new_tokens=3, eos_token_id=[])
    handle.remove()
    assert len(calls) == 1

"""Law 6: a trace and installed hooks give the same tokens and logits."""

import torch
from hypothesis import given

from interv import VLM
from tests.property.cases import Case, cases
from tests.property.reference import bitwise, from_scratch, same_reply


def check_hooks_from_the_start_give_the_same_reply(vlm: VLM, case: Case) -> None:
    """Transformers' generate runs the whole prompt with the hooks, the trace its last token."""
    replies = case.answer(vlm)
    with vlm.installed(case.ops(vlm)):
        tokens, logits = from_scratch(vlm, case)
    for row in range(len(case.asks)):
        same_reply(replies.token_ids[row], replies.logits[row], tokens[row], logits[row])


def check_hooks_behind_the_same_prefill_give_the_same_bits(vlm: VLM, case: Case) -> None:
    replies = case.answer(vlm)
    inputs = vlm.prefill(case.prompts()).decoding_inputs()
    with vlm.installed(case.ops(vlm)):
        output = vlm.model.generate(
            **inputs,
            do_sample=False,
            max_new_tokens=case.tokens,
            eos_token_id=[],
            output_logits=True,
            return_dict_in_generate=True,
        )
    assert output.sequences[:, -case.tokens :].tolist() == replies.token_ids
    bitwise(torch.stack(output.logits, 1), replies.logits)


@given(case=cases())
def test_hooks_from_the_start_give_the_same_reply(vlm: VLM, case: Case) -> None:
    check_hooks_from_the_start_give_the_same_reply(vlm, case)


@given(case=cases(scopes=("response", "generated", "last_prompt")))
def test_hooks_behind_the_same_prefill_give_the_same_bits(vlm: VLM, case: Case) -> None:
    check_hooks_behind_the_same_prefill_give_the_same_bits(vlm, case)

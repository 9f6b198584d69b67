"""Law 5: with and without a cache, from a prefill and from the start, one and the same reply."""

from hypothesis import given

from interv import VLM
from tests.property.cases import Case, cases
from tests.property.reference import loop_of_full_passes, same_reply


def check_prefill_and_decode_equal_full_passes(vlm: VLM, case: Case) -> None:
    replies = vlm.generate(case.prompts(), case.ops(vlm), max_new_tokens=case.tokens, logits=True)
    for row in range(len(case.asks)):
        same_reply(replies.token_ids[row], replies.logits[row], *loop_of_full_passes(vlm, case, row))


@given(case=cases())
def test_prefill_and_decode_equal_full_passes(vlm: VLM, case: Case) -> None:
    check_prefill_and_decode_equal_full_passes(vlm, case)

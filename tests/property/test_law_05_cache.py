"""Law 5: with a cache, without one, and in one full pass after the other: the same reply."""

from hypothesis import given

from interv import VLM
from tests.property.cases import Case, cases
from tests.property.reference import from_scratch, loop_of_full_passes, same_reply


def check_prefill_and_decode_equal_full_passes(vlm: VLM, case: Case) -> None:
    replies = case.answer(vlm)
    for row in range(len(case.asks)):
        same_reply(replies.token_ids[row], replies.logits[row], *loop_of_full_passes(vlm, case, row))


def check_first_logits_equal_a_full_pass(vlm: VLM, case: Case) -> None:
    """`logits` is what `generate` starts with."""
    first = Case(case.asks, case.pushes, 1)
    logits = vlm.logits(case.prompts(), case.ops(vlm))
    for row in range(len(case.asks)):
        same_reply([int(logits[row].argmax())], logits[row][None], *loop_of_full_passes(vlm, first, row))


def check_cache_on_equals_off(vlm: VLM, case: Case) -> None:
    """Transformers' own generate through installed hooks; without a cache each step runs the whole text again."""
    with vlm.installed(case.ops(vlm)):
        tokens, logits = from_scratch(vlm, case, use_cache=True)
    with vlm.installed(case.ops(vlm)):
        other, expected = from_scratch(vlm, case, use_cache=False)
    for row in range(len(case.asks)):
        same_reply(tokens[row], logits[row], other[row], expected[row])


@given(case=cases())
def test_prefill_and_decode_equal_full_passes(vlm: VLM, case: Case) -> None:
    check_prefill_and_decode_equal_full_passes(vlm, case)


@given(case=cases(scopes=("all", "prompt", "image", "last_prompt", "response")))
def test_first_logits_equal_a_full_pass(vlm: VLM, case: Case) -> None:
    check_first_logits_equal_a_full_pass(vlm, case)


@given(case=cases())
def test_cache_on_equals_off(vlm: VLM, case: Case) -> None:
    check_cache_on_equals_off(vlm, case)


def test_every_greedy_reply_is_the_one_of_transformers(vlm: VLM) -> None:
    """Without ops the project's three stages are invisible."""
    case = Case(tokens=6)
    replies = vlm.generate(case.prompts(), max_new_tokens=6, logits=True, eos_token_id=[])
    tokens, logits = from_scratch(vlm, case)
    for row in range(len(case.asks)):
        same_reply(replies.token_ids[row], replies.logits[row], tokens[row], logits[row])


def test_rows_that_end_early_end_where_transformers_ends_them(vlm: VLM) -> None:
    """A third of the vocabulary ends a row, so rows end at different steps."""
    ends = list(range(0, vlm.model.config.get_text_config().vocab_size, 3))
    case = Case(tokens=8)
    replies = vlm.generate(case.prompts(), case.ops(vlm), max_new_tokens=8, eos_token_id=ends)
    with vlm.installed(case.ops(vlm)):
        tokens, _ = from_scratch(vlm, case, eos_token_id=ends)
    for row, whole in enumerate(tokens):
        stop = next((step + 1 for step, token in enumerate(whole) if token in ends), len(whole))
        assert replies.token_ids[row] == whole[:stop]
        assert replies.finish_reason[row] == ("stop" if whole[stop - 1] in ends else "length")

"""Replies: where a row ends and why."""

import torch

from interv import VLM, Add, Replies, Site
from interv.running.decoding import ids_of
from interv.running.replies import trim
from tests.property.cases import Case


def test_a_row_ends_with_its_first_end_token() -> None:
    rows, reasons = trim(torch.tensor([[5, 2, 0, 0], [5, 6, 7, 2], [5, 6, 7, 8]]), {2}, {})
    assert rows == [[5, 2], [5, 6, 7, 2], [5, 6, 7, 8]]
    assert reasons == ["stop", "stop", "length"]


def test_padding_behind_a_stop_string_is_cut() -> None:
    """Also where the padding is an end token, as in Qwen2-VL, and where the row ended in the last step."""
    tokens = torch.tensor([[5, 6, 2, 2], [5, 6, 7, 8], [5, 2, 2, 2]])
    assert trim(tokens, {2}, {0: 2, 1: 4, 2: 3}) == ([[5, 6], [5, 6, 7, 8], [5, 2]], ["stop"] * 3)


def test_end_ids_may_be_absent_one_or_several() -> None:
    assert (ids_of(None), ids_of(3), ids_of([3, 4])) == (frozenset(), {3}, {3, 4})


def test_replies_are_a_list_of_texts() -> None:
    replies = Replies(["yes", "no"], [[1], [2]], ["stop", "length"])
    assert replies == ["yes", "no"]
    assert (replies.token_ids, replies.finish_reason, replies.captured) == ([[1], [2]], ["stop", "length"], {})


def test_a_padding_token_that_the_model_chose_is_part_of_the_reply(vlm: VLM) -> None:
    vector = torch.zeros(vlm.model.config.get_text_config().vocab_size)
    pad = vlm.model.generation_config.pad_token_id
    vector[pad] = 1e4
    replies = vlm.generate(Case().prompts(), [Add(Site.parse("lm_head"), vector)], max_new_tokens=3, eos_token_id=[])
    assert replies.token_ids == [[pad] * 3] * 2
    assert replies.finish_reason == ["length"] * 2

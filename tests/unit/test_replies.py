"""Replies: where a row ends and why."""

import torch

from interv import VLM, Add, Replies, Site
from interv.replies import ids_of, trim
from tests.property.cases import Case


def test_a_row_ends_with_its_first_end_token() -> None:
    rows, reasons = trim(torch.tensor([[5, 2, 0, 0], [5, 6, 7, 2], [5, 6, 7, 8]]), {2}, None)
    assert rows == [[5, 2], [5, 6, 7, 2], [5, 6, 7, 8]]
    assert reasons == ["stop", "stop", "length"]


def test_padding_behind_a_stop_string_is_cut() -> None:
    assert trim(torch.tensor([[5, 6, 0, 0], [5, 6, 7, 8]]), {2}, 0) == ([[5, 6], [5, 6, 7, 8]], ["stop", "length"])


def test_end_ids_may_be_absent_one_or_several() -> None:
    assert (ids_of(None), ids_of(3), ids_of([3, 4])) == (set(), {3}, {3, 4})


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

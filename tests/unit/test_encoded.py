"""Encoded: left padding, and the beginnings of rows."""

import pytest
import torch

from interv import VLM, Prompt
from interv.prompts.encoding import Encoded
from tests.property.cases import Ask
from tests.property.reference import bitwise, own_inputs

ASKS = (Ask("a longer question?"), Ask("hm", (), 1), Ask("two", ((56, 84), (28, 28)), 2))


def encoded(vlm: VLM) -> Encoded:
    return vlm.encode([ask.prompt() for ask in ASKS])


def test_rows_are_the_prompts_padded_on_the_left(vlm: VLM) -> None:
    batch = encoded(vlm)
    assert batch.attention_mask[:, -1].all()
    for row, ask in enumerate(ASKS):
        alone = own_inputs(vlm, [ask])["input_ids"][0]
        bitwise(batch.tokens(row), alone)
        bitwise(batch.input_ids[row, -len(alone) :], alone)
        assert int(batch.image_mask[row].sum()) == int((alone == vlm.model.config.image_token_id).sum())


def test_positions_count_tokens_and_not_padding(vlm: VLM) -> None:
    batch = encoded(vlm)
    for row, ask in enumerate(ASKS):
        alone = vlm.encode([ask.prompt()])
        bitwise(batch.position_ids[..., row, batch.attention_mask[row].bool()], alone.position_ids[..., 0, :])


def test_the_head_of_a_row_is_its_first_tokens(vlm: VLM) -> None:
    batch = encoded(vlm)
    lengths = [int(batch.attention_mask[row].sum()) - cut for row, cut in enumerate((1, 0, 2))]
    head = batch.head(lengths, vlm.pad_token_id)
    assert head.input_ids.shape[1] == max(lengths)
    for row, length in enumerate(lengths):
        kept = head.attention_mask[row].bool()
        bitwise(head.tokens(row), batch.tokens(row)[:length])
        whole = batch.position_ids[..., row, batch.attention_mask[row].bool()]
        bitwise(head.position_ids[..., row, kept], whole[..., :length])
        assert (head.input_ids[row][~kept] == vlm.pad_token_id).all()


def test_a_head_that_cuts_an_image_is_refused(vlm: VLM) -> None:
    with pytest.raises(ValueError, match="before the end of its image"):
        encoded(vlm).head([5, 3, 3], vlm.pad_token_id)


def test_a_prompt_that_ends_with_its_image_is_refused(vlm: VLM, monkeypatch: pytest.MonkeyPatch) -> None:
    image = vlm.processor.image_token
    monkeypatch.setattr("interv.prompts.encoding.render", lambda processor, prompt: f"what {image}")
    with pytest.raises(ValueError, match="question must come after"):
        vlm.encode([Prompt(ASKS[0].images(), "what?")])


def test_pixels_come_in_the_precision_of_the_model(vlm: VLM) -> None:
    assert all(not value.is_floating_point() or value.dtype == vlm.model.dtype for value in encoded(vlm).media.values())
    assert encoded(vlm).input_ids.dtype == torch.long

"""Options of generate: honoured, refused with a reason, and never decided by the checkpoint behind the user's back."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
import torch
from transformers import GenerationConfig

from interv import VLM, Capture, Site
from interv.running.decoding import REFUSED
from studies.tasks import TASKS
from tests.tiny_models import build
from tests.unit.test_ways_of_generating import LAYER, PROMPTS, ops


@pytest.fixture
def own_settings(vlm: VLM) -> Iterator[GenerationConfig]:
    """The model's generation settings, to change in one test."""
    before = vlm.model.generation_config
    vlm.model.generation_config = deepcopy(before)
    yield vlm.model.generation_config
    vlm.model.generation_config = before


@pytest.mark.parametrize(
    "setting",
    [
        {"use_cache": False},
        {"cache_implementation": "static"},
        {"num_beams": 3},
        {"do_sample": True, "temperature": 9.0},
        {"guidance_scale": 3.0},
        {"prompt_lookup_num_tokens": 2},
        {"prefill_chunk_size": 4},
    ],
    ids=str,
)
def test_a_checkpoint_does_not_decide_how_replies_are_made(
    vlm: VLM, own_settings: GenerationConfig, setting: dict[str, Any]
) -> None:
    runs = ([], ops(vlm, 2))
    plain = [vlm.generate(PROMPTS, steering, max_new_tokens=5).token_ids for steering in runs]
    for name, value in setting.items():
        setattr(own_settings, name, value)
    assert [vlm.generate(PROMPTS, steering, max_new_tokens=5).token_ids for steering in runs] == plain


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_be_lost_or_wrong_is_refused_by_name(vlm: VLM, name: str) -> None:
    with pytest.raises(ValueError, match=rf"generate\({name}=...\) is not possible here"):
        vlm.generate(PROMPTS, max_new_tokens=2, **{name: torch.ones(2)})


def test_an_option_of_none_is_no_option(vlm: VLM) -> None:
    nothing = {**dict.fromkeys(REFUSED), "num_beams": None, "do_sample": None, "stop_strings": None}
    capture = Capture(Site(LAYER), "generated")
    with_none = vlm.generate(PROMPTS, [capture], max_new_tokens=4, logits=True, **nothing)
    plain = vlm.generate(PROMPTS, [capture], max_new_tokens=4, logits=True)
    assert with_none.token_ids == plain.token_ids
    assert torch.equal(with_none.logits, plain.logits)


def test_logits_of_beams_are_refused(vlm: VLM) -> None:
    with pytest.raises(ValueError, match="swap rows at every step"):
        vlm.generate(PROMPTS, max_new_tokens=2, num_beams=2, logits=True)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("name", ["random-llava", "random-qwen2vl"])
def test_a_row_ends_at_its_stop_string_whatever_the_padding_is(name: str, beams: int) -> None:
    """An unused token, an end token as in Qwen2-VL, or one that the reply itself holds."""
    vlm, end_id = build(name), 256
    tokenizer = vlm.processor.tokenizer
    free = vlm.generate(PROMPTS, max_new_tokens=9, num_beams=beams, eos_token_id=[end_id])
    decoded = [tokenizer.decode(token) for token in free.token_ids[0]]
    string = next(text for text in decoded[2:] if text.isascii() and len(text) == 1)
    end = decoded.index(string) + 1

    def stopped(padding: int) -> tuple[list[list[int]], list[str]]:
        options = {"num_beams": beams, "eos_token_id": [end_id], "pad_token_id": padding}
        replies = vlm.generate(PROMPTS, max_new_tokens=9, stop_strings=[string], **options)
        return replies.token_ids, list(replies.finish_reason)

    unused = next(token for token in range(256) if token not in free.token_ids[0] + free.token_ids[1])
    tokens, reasons = stopped(unused)
    if beams == 1:
        assert (tokens[0], reasons[0]) == (free.token_ids[0][:end], "stop")
    assert unused not in tokens[0] + tokens[1]
    assert stopped(end_id) == (tokens, reasons)
    assert stopped(free.token_ids[0][end - 1]) == (tokens, reasons)


@pytest.mark.parametrize("beams", [1, 2])
def test_a_stop_string_ends_replies_of_whole_words(beams: int) -> None:
    """Transformers' own criterion cannot read a vocabulary without letters, which the embedded models have."""
    tiny = VLM.load("tiny-llava")
    prompts = [example.prompt for example in TASKS["shapes_pope"]().prompts("val")[:2]]
    free = tiny.generate(prompts, max_new_tokens=12, num_beams=beams)
    stopped = tiny.generate(prompts, max_new_tokens=12, num_beams=beams, stop_strings=["the image", "nothing"])
    assert stopped.finish_reason == ["stop", "stop"]
    if beams == 1:  # more of them weigh the shorter replies against others
        assert [*stopped] == [reply.partition("the image")[0] + "the image" for reply in free]
    assert all(reply.endswith("the image") and reply.count("the image") == 1 for reply in stopped)


def test_a_capture_ends_where_its_row_does(vlm: VLM) -> None:
    """Rows that a criterion ended go on as padding beside the others, which is not read."""

    def first_row(ids: torch.Tensor, scores: Any, **named: Any) -> torch.Tensor:
        return torch.tensor([ids.shape[1] >= start + 3, False])

    start = vlm.encode(PROMPTS).input_ids.shape[1]
    capture = Capture(Site(LAYER), "generated")
    replies = vlm.generate(PROMPTS, [capture], max_new_tokens=6, eos_token_id=[], stopping_criteria=[first_row])
    assert [len(ids) for ids in replies.token_ids] == [3, 6]
    assert replies.finish_reason == ["stop", "length"]
    assert [len(states) for states in replies.captured[capture]] == [2, 5]

"""One item that cannot be used: it is named by its place or its id, and it decides nothing for the others."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from interv import VLM, Prompt, Site
from interv.prompts.rendering import PromptError
from methods import P2S, BankShards, ContrastBank, ContrastPair, capture_contrasts, steer
from tests.property.reference import bitwise, close
from tests.real_vocabularies import BPE, build_bpe, byte_fallback
from tests.tiny_models import RANDOM, build
from tests.unit.test_ways_of_generating import picture

STRIP = Image.new("RGB", (3000, 10))  # Qwen2-VL takes no ratio above 200


def other(vlm: VLM, **changes: Any) -> VLM:
    """The same LLaVA with another tokenizer or template."""
    own = vlm.processor
    parts = {"tokenizer": own.tokenizer, "chat_template": own.chat_template, **changes}
    settings = ("patch_size", "vision_feature_select_strategy", "num_additional_image_tokens")
    return VLM(vlm.model, type(own)(own.image_processor, **{name: getattr(own, name) for name in settings}, **parts))


def pair(number: int, image: Any) -> ContrastPair:
    asked = Prompt(image, f"what {'is it ' * (number % 3)}?")
    return ContrastPair(asked, replace(asked, answer="yes"), replace(asked, answer="no"), id=f"item {number}")


def pairs(bad: dict[int, Any], count: int = 6) -> list[ContrastPair]:
    return [pair(number, bad.get(number, picture(number, 28 + 28 * (number % 2)))) for number in range(count)]


@pytest.mark.parametrize("order", ["given", "length", "image"])
@pytest.mark.parametrize("batch_size", [1, 2, 4, 8])
@pytest.mark.parametrize("kept", ["memory", "shards"])
def test_a_bad_image_is_skipped_by_its_id(order: Any, batch_size: int, kept: str, tmp_path: Path) -> None:
    vlm = build("random-qwen2vl")
    every = pairs({1: STRIP, 3: STRIP.rotate(90, expand=True), 4: "no.png"})
    options: dict[str, Any] = {"batch_size": batch_size, "order": order, "progress": False}
    bank: Any = capture_contrasts(vlm, every, **options, out=tmp_path if kept == "shards" else None)
    assert isinstance(bank, BankShards if kept == "shards" else ContrastBank)
    reasons = dict(bank.skipped)
    assert set(reasons) == {"item 1", "item 3", "item 4"}
    assert "aspect ratio" in reasons["item 1"]
    assert "no.png" in reasons["item 4"]
    bank = bank.loaded() if kept == "shards" else bank
    assert bank.id == ("item 0", "item 2", "item 5")
    good = capture_contrasts(vlm, [every[number] for number in (0, 2, 5)], progress=False)
    for name in ("context", "positive", "negative"):
        close(getattr(bank, name), getattr(good, name))


@pytest.mark.parametrize("kept", ["memory", "shards"])
def test_bad_images_alone_are_an_error_that_names_one(kept: str, tmp_path: Path) -> None:
    out = tmp_path if kept == "shards" else None
    with pytest.raises(
        ValueError, match=r"None of the 2 contrast pairs can be used; the first: .*item 0.*aspect ratio"
    ):
        capture_contrasts(build("random-qwen2vl"), pairs({0: STRIP, 1: STRIP}, 2), progress=False, out=out)


@pytest.mark.parametrize("call", ["encode", "prefill", "generate", "logits", "capture", "steer", "batches"])
def test_a_call_on_prompts_names_the_prompt(call: str) -> None:
    vlm = build("random-qwen2vl")
    asked = [one.prompt for one in pairs({4: STRIP})]
    steerer = P2S(1, 1, vlm.fingerprint)
    vectors = torch.ones(len(asked), vlm.d_model)
    calls = {
        "capture": lambda: vlm.capture(asked, [Site(1)]),
        "steer": lambda: steer(vlm, asked, steerer, vectors=vectors),
        "batches": lambda: steer(vlm, asked, steerer, vectors=vectors, batch_size=3),
    }
    with pytest.raises(PromptError, match=r"prompts\[4\] cannot be used: .*aspect ratio") as raised:
        calls[call]() if call in calls else getattr(vlm, call)(asked)
    assert raised.value.index == 4


@pytest.mark.parametrize("name", RANDOM)
def test_an_image_that_is_missing_names_its_prompt(name: str) -> None:
    with pytest.raises(ValueError, match=r"prompts\[1\] cannot be used: The image no\.png cannot be read"):
        build(name).encode([Prompt(picture(1), "what?"), Prompt("no.png", "what?")])


@pytest.mark.parametrize("first", ["writes it", "leaves it out"])
@pytest.mark.parametrize("name", ["random-llava", "bpe-llava"])
def test_a_template_that_begins_the_sequence_at_times_does_so_for_its_own_rows(name: str, first: str) -> None:
    """With its beginning-of-sequence token in the rows that have a system turn, and without it in the others."""
    vlm = build_bpe(name) if name in BPE else build(name)
    bos = vlm.processor.tokenizer.bos_token
    template = "{% if messages[0]['role'] == 'system' %}" + bos + "{% endif %}" + vlm.processor.chat_template
    at_times = other(vlm, chat_template=template)
    prompts = [Prompt(picture(1), "what?", system="be brief"), Prompt(picture(2), "is there a dog?")]
    prompts = prompts if first == "writes it" else prompts[::-1]
    together = at_times.encode(prompts)
    begin = vlm.processor.tokenizer.bos_token_id
    for row, prompt in enumerate(prompts):
        alone = at_times.encode([prompt])
        bitwise(together.tokens(row), alone.tokens(0))
        assert together.tokens(row).tolist().count(begin) == 1
        assert int(together.tokens(row)[0]) == begin
        bitwise(together.position_ids[row][together.attention_mask[row].bool()], alone.position_ids[0])
        assert at_times.generate(prompts, max_new_tokens=5)[row] == at_times.generate([prompt], max_new_tokens=5)[0]


@pytest.mark.parametrize("name", [*RANDOM, *BPE])
@pytest.mark.parametrize("options", [{"repetition_penalty": 9.0}, {"no_repeat_ngram_size": 1}], ids=str)
def test_penalties_for_what_was_there_do_not_count_padding(name: str, options: dict[str, Any]) -> None:
    """The padding of one row would keep it from ending, where the padding token is an end token."""
    vlm = build_bpe(name) if name in BPE else build(name)
    prompts = [Prompt(None, "a"), Prompt(picture(1), "Is there a dog in the image, or is there no dog in it?")]
    pad = vlm.processor.tokenizer.pad_token_id
    head = vlm.model.lm_head
    before = head.weight.data[pad].clone()
    try:
        alone = vlm.generate(prompts[:1], max_new_tokens=1, logits=True)
        head.weight.data[pad] = (
            head.weight.data[alone.token_ids[0][0]] * 1.1
        )  # the likeliest token where logits are > 0
        settings: dict[str, Any] = {"max_new_tokens": 3, "eos_token_id": [], **options}
        assert vlm.generate(prompts, **settings).token_ids[0] == vlm.generate(prompts[:1], **settings).token_ids[0]
    finally:
        head.weight.data[pad] = before


@pytest.mark.parametrize("rows", [1, 3])
def test_a_tokenizer_without_a_padding_token_pads_all_the_same(rows: int) -> None:
    with_it = build_bpe("bpe-llava")
    tokenizer = deepcopy(byte_fallback())
    tokenizer.pad_token = None
    without = other(with_it, tokenizer=tokenizer)
    asked = [Prompt(picture(seed), "Is there a dog?" * (1 + seed)) for seed in range(rows)]
    encoded = without.encode(asked)
    for row in range(rows):
        bitwise(encoded.tokens(row), without.encode(asked[row : row + 1]).tokens(0))
    replies = without.generate(asked, max_new_tokens=3, eos_token_id=[])
    assert [len(ids) for ids in replies.token_ids] == [3] * rows
    assert tokenizer.pad_token is None  # what was given is as it was

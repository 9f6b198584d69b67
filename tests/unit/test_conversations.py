"""Conversations in the forms in which people write them, and what is no prompt, refused where it enters."""

import io
from dataclasses import replace
from inspect import unwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from interv import VLM, Prompt, Site
from methods import ContrastPair, capture_contrasts, steer
from tests.property.reference import bitwise, close
from tests.real_vocabularies import BPE, build_bpe
from tests.unit.test_ways_of_generating import picture

PAIRS = (("user", "Is there a dog?"), ("assistant", "Yes."))
MESSAGES = [{"role": "user", "content": "Is there a dog?"}, {"role": "assistant", "content": "Yes."}]
PARTS = [
    {"role": "user", "content": [{"type": "text", "text": "Is there a dog?"}]},
    {"role": "assistant", "content": ({"type": "text", "text": "Yes."},)},
]


def asked(*arguments: Any, **named: Any) -> Prompt:
    """A prompt as it is without the tests' own checks of types, which would speak first."""
    made = object.__new__(Prompt)
    unwrap(Prompt.__init__)(made, *arguments, **named)
    return made


def text_of(vlm: VLM, prompt: Prompt) -> str:
    return vlm.processor.tokenizer.decode(vlm.encode([prompt]).tokens(0))


@pytest.mark.parametrize("history", [MESSAGES, PARTS, [list(turn) for turn in PAIRS]], ids=["text", "parts", "lists"])
def test_messages_are_the_turns_that_they_say(vlm: VLM, history: Any) -> None:
    prompt = Prompt(picture(1), "And a cat?", history=history)
    assert prompt.history == PAIRS
    bitwise(vlm.encode([prompt]).input_ids, vlm.encode([replace(prompt, history=PAIRS)]).input_ids)
    assert replace(prompt, answer="No").history == PAIRS


@pytest.mark.parametrize("name", BPE)
def test_an_image_stands_in_the_turn_where_it_was_shown(name: str) -> None:
    vlm, shown = build_bpe(name), picture(1)
    before = Prompt(
        shown,
        "And a cat?",
        history=[
            {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Is there a dog?"}]},
            ("assistant", "Yes."),
        ],
    )
    own = replace(
        before,
        image=None,
        history=[
            {
                "role": "user",
                "content": [{"type": "image", "image": shown}, {"type": "text", "text": "Is there a dog?"}],
            },
            ("assistant", "Yes."),
        ],
    )
    marks = {"bpe-llava": "USER: <image>", "bpe-qwen2vl": "user\n<|vision_start|>"}
    text = text_of(vlm, before)
    assert text.index(marks[name]) < text.index("dog") < text.index("cat")
    assert "image" not in text[text.index("dog") :]
    bitwise(vlm.encode([own]).input_ids, vlm.encode([before]).input_ids)
    close(vlm.logits([own]), vlm.logits([before]))
    assert not torch.equal(vlm.logits([before]), vlm.logits([Prompt(shown, "And a cat?", history=PAIRS)]))


def test_images_come_in_the_order_in_which_they_are_shown() -> None:
    one, two, three = (Image.new("RGB", (28 + size, 28)) for size in range(3))
    prompt = Prompt(
        [two, three],
        "and here?",
        history=[
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "one.png"}}, {"type": "image"}]},
            ("assistant", "a"),
        ],
    )
    assert prompt.pictures() == ("one.png", two, three)
    shown = [[part["type"] for part in message["content"]] for message in prompt.messages()]
    assert shown == [["image", "image"], ["text"], ["image", "text"]]
    assert [image.width for image in replace(prompt, history=(), image=[one, *prompt.image]).images()] == [28, 29, 30]


def test_contrasts_about_an_earlier_image_are_those_of_prompts_by_themselves(vlm: VLM) -> None:
    turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what is it ?"}]}
    prompts = [Prompt(picture(seed), "and now ?", history=[turn, ("assistant", "red")]) for seed in (1, 2, 2)]
    prompts[2] = replace(prompts[2], image=prompts[1].image)
    pairs = [ContrastPair(one, replace(one, answer="yes"), replace(one, answer="no")) for one in prompts]
    together = capture_contrasts(vlm, pairs, order="image", progress=False)
    for row, pair in enumerate(pairs):
        alone = capture_contrasts(vlm, [pair], progress=False)
        close(together.context[row], alone.context[0])
        close(together.positive[row], alone.positive[0])
        close(alone.context[0, 1], vlm.capture([pair.prompt], [Site(1)])[Site(1)][0])


@pytest.mark.parametrize("field", ["question", "answer", "system"])
@pytest.mark.parametrize("value", [float("nan"), b"what?", ["what?"], [{"type": "text", "text": "what?"}], 3, {"a": 1}])
def test_what_is_no_text_is_refused_by_its_type(field: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"The {field} is a {type(value).__name__}, not a text"):
        asked(None, **{"question": "what?", field: value})


@pytest.mark.parametrize("field", ["question", "answer"])
def test_none_is_no_text(field: str) -> None:
    with pytest.raises(TypeError, match=f"The {field} is a NoneType"):
        asked(None, **{"question": "what?", field: None})


def test_a_question_and_an_image_that_changed_places_are_told_so(tmp_path: Path) -> None:
    file = tmp_path / "dog.png"
    picture(1).save(file)
    for image in (picture(1), file):
        with pytest.raises(TypeError, match=r"the image comes first: Prompt\(image, question\)"):
            asked("Is there a dog?", image)
    with pytest.raises(ValueError, match=r"the image comes first: Prompt\(image, question\)"):
        Prompt("Is there a dog?", str(file)).images()


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros((28, 28, 3), np.uint8), "not ndarray; an array becomes one by Image.fromarray"),
        (torch.zeros(3, 28, 28), "not Tensor; an array becomes one by Image.fromarray"),
        ([np.zeros((28, 28, 3), np.uint8)], "not ndarray"),
        ((one for one in [picture(1)]), "not generator; make a list of it"),
        (map(str, ["a.png"]), "not map; make a list of it"),
        (b"\x89PNG", r"not bytes; open it: Image.open\(io.BytesIO"),
        (io.BytesIO(b""), "not BytesIO; open it"),
        (7, "not int"),
        ({"pixels": 1}, "A row with pixels is no image; it needs bytes or path"),
    ],
)
def test_what_is_no_image_is_refused_with_the_way(image: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        asked(image, "what?")


@pytest.mark.parametrize("address", ["https://example.org/dog.png", "file:///dog.png", "data:image/png;base64,AAAA"])
def test_an_address_is_no_file(address: str) -> None:
    with pytest.raises(ValueError, match="is an address; download it"):
        Prompt(address, "what?").images()


@pytest.mark.parametrize(
    ("history", "said"),
    [
        ("hello", "history is a list of turns"),
        (None, "history is a list of turns"),
        (MESSAGES[0], "history is a list of turns.*it is a dict"),
        (("user", "hello"), r"history\[0\] is a str"),
        ([("user", None)], r"content of history\[0\] is a NoneType"),
        ([*PAIRS, {"role": "user", "content": b"x"}], r"content of history\[2\] is a bytes"),
        ([{"role": "user", "content": [3]}], r"history\[0\] holds a int"),
        ([{"role": "user", "content": [{"type": "text", "text": None}]}], "a text that is a NoneType"),
        ([{"role": "user", "content": [{"type": "image", "image": np.zeros(3)}]}], "not ndarray"),
        ([(1, "hello")], "role of .* is a int"),
    ],
)
def test_what_is_no_turn_is_refused_by_its_type(history: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        asked(None, "what?", history=history)


@pytest.mark.parametrize(
    ("history", "said"),
    [
        ([{"role": "robot", "content": "x"}], "'robot'; it is one of system, user, assistant"),
        ([{"role": "user", "content": "x", "name": "a"}], "has name, which would be lost"),
        ([{"role": "user", "content": [{"type": "video", "video": "x"}]}], "type 'video'"),
        ([{"role": "user", "content": []}], "is empty"),
        ([{"role": "user", "content": [{"type": "image"}]}], "shows 1 images without saying which"),
    ],
)
def test_turns_that_would_lose_something_are_refused(history: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        asked(None, "what?", history=history)


@pytest.mark.parametrize(
    ("prompts", "said"),
    [
        (["text"], r"prompts\[0\] is a str; give a list of prompts: \[Prompt\(image, question\)\]"),
        ("text", "Prompts came as a str"),
        ([Prompt(None, "a"), picture(1)], r"prompts\[1\] is a Image"),
        ((one for one in [Prompt(None, "a")]), "Prompts came as a generator"),
        ({"prompt": Prompt(None, "a")}, "Prompts came as a dict"),
        (None, "Prompts came as a NoneType"),
    ],
)
def test_what_is_no_list_of_prompts_is_refused(prompts: Any, said: str) -> None:
    vlm = build_bpe(BPE[0])
    for call, more in ((VLM.encode, ()), (VLM._start, ([],)), (steer, (None,))):
        with pytest.raises(TypeError, match=said):
            unwrap(call)(vlm, prompts, *more)

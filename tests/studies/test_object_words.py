"""AD-HH's heads on captions: places are the words for objects, as its published code finds them token by token."""

from dataclasses import replace
from typing import Any

import pytest

from interv import VLM, Replies
from methods import Said, attribute_heads
from studies.fit.materials import object_words
from studies.tasks.chair.words import Places, Vocabulary
from studies.tasks.pictures_captions import PicturesCaptions
from studies.tasks.shapes_captions import ShapesCaptions
from studies.tasks.task import Example
from studies.tiny_world.world import ICONS
from tests.property.reference import close

CAPTIONS = 24


@pytest.fixture(scope="module")
def tiny() -> VLM:
    return VLM.load("tiny-llava")


@pytest.fixture(scope="module")
def replies(tiny: VLM) -> Replies:
    task = ShapesCaptions()
    prompts = [one.prompt for one in task.prompts("val")[:CAPTIONS]]
    return tiny.generate(prompts, max_new_tokens=task.max_new_tokens)


@pytest.fixture(scope="module")
def answered(replies: Replies) -> list[tuple[Example, str]]:
    return list(zip(ShapesCaptions().prompts("val")[:CAPTIONS], replies, strict=True))


def by_hand(
    tokenizer: Any, answered: list[tuple[Example, str]], said: list[list[int]]
) -> list[tuple[str, list[int], bool]]:
    """Every step of a greedy reply whose token begins a marked word: its example, what was said before, and the mark.

    Marks are by word, hallucinated before true; captions without a hallucinated word are left out.
    """
    found = []
    for (example, reply), tokens in zip(answered, said, strict=True):
        shown = set(example.target.split(", "))
        words = [word for word in reply.split() if word in ICONS]
        marks = {tokenizer.encode(f"a {word}", add_special_tokens=False)[1]: word not in shown for word in words}
        for word in words:
            marks[tokenizer.encode(f"a {word}", add_special_tokens=False)[1]] |= word not in shown
        if not any(marks.values()):
            continue
        found += [(example.id, tokens[:step], marks[token]) for step, token in enumerate(tokens) if token in marks]
    return found


def test_places_are_the_published_steps(tiny: VLM, answered: list[tuple[Example, str]], replies: Replies) -> None:
    said = object_words(answered, ShapesCaptions().places, 1000)
    expected = by_hand(tiny.processor.tokenizer, answered, replies.token_ids)
    assert sum(wrong for *_, wrong in expected) > 5
    assert sum(not wrong for *_, wrong in expected) > 5
    id_of = {id(example.prompt.image): example.id for example, _ in answered}
    found = []
    for one in said:
        whole, bare = (tiny.encode([replace(one.prompt, answer=answer)]) for answer in (one.prompt.answer, ""))
        before = whole.tokens(0).tolist()[len(bare.tokens(0)) :]
        found.append((id_of[id(one.prompt.image)], before, one.wrong))
    assert sorted(found) == sorted(expected)


def test_influence_is_on_the_word_that_the_model_says(tiny: VLM, answered: list[tuple[Example, str]]) -> None:
    said = object_words(answered, ShapesCaptions().places, 3)
    assert [one.wrong for one in said] == [True] * 3 + [False] * 3
    found = attribute_heads(tiny, said)
    one = said[0]
    prefill = tiny.prefill([one.prompt])
    plain = tiny.logits(prefill).softmax(-1)[0]
    word = tiny.processor.tokenizer.decode([int(plain.argmax())]).strip()
    assert word in ICONS
    layer, head = divmod(int(found.influence[0].abs().argmax()), found.influence.shape[2])
    projection = tiny.model.model.language_model.layers[layer].self_attn.o_proj
    width = projection.in_features // found.influence.shape[2]
    kept = projection.weight.detach().clone()
    try:
        projection.weight.data[:, head * width : (head + 1) * width] = 0
        without = tiny.logits(prefill).softmax(-1)[0]
    finally:
        projection.weight.data.copy_(kept)
    close(found.influence[0, layer, head], (plain - without)[plain.argmax()])


def test_captions_that_invent_nothing_are_left_out_and_so_many_are_taken() -> None:
    task = ShapesCaptions()
    example = task.prompts("val")[0]
    own = example.target.split(", ")
    absent = next(word for word in ICONS if word not in own)
    right, wrong = (f"the image has a {word} and a {own[1]} ." for word in (own[0], absent))
    assert object_words([(example, right)], task.places, 5) == []
    said = object_words([(example, right), (example, wrong), (example, wrong)], task.places, 1)
    before = ("the image has a", f"the image has a {absent} and a")
    assert said == [
        Said(replace(example.prompt, answer=text), wrong) for text, wrong in zip(before, (True, False), strict=True)
    ]


def check_places(places: Places, text: str, *words: str) -> None:
    for (start, _), word in zip(places, words, strict=True):
        assert text[start:].startswith(word)


def test_places_of_each_vocabulary() -> None:
    words = Vocabulary({"dog": "dog", "hot dog": "hot dog", "person": "person", "man": "person"})
    text = "Two Dogs, a hot dog and men"
    check_places(words.places(text), text, "Dogs", "hot dog", "men")
    assert [name for _, name in words.places(text)] == words.mentions(text) == ["dog", "hot dog", "person"]
    pictures = PicturesCaptions.load()
    first, second = list(pictures._cut_outs.things.theme_of)[:2]
    text = f"The picture shows a {first} and an {second}."
    check_places(pictures.places(text), text, first, second)
    assert pictures.named(text) == [first, second]
    shapes = ShapesCaptions()
    icon = next(iter(ICONS))
    check_places(shapes.places(f"a {icon} ."), f"a {icon} .", icon)

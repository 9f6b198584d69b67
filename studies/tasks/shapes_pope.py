"""POPE on the embedded world: does the image show this object?

As in POPE (arXiv:2305.10355) there are three subsets, each balanced: absent objects are asked for at random, among the
popular ones, or among those that fit the scene. Every question has a scene of its own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.random import Generator

from interv import Prompt
from methods import ContrastPair
from studies.measure import YES_NO, Metric, ratio
from studies.tasks.listed import ListedTask, drawn_once
from studies.tasks.task import Example, Split
from studies.tiny_world.draw import draw
from studies.tiny_world.language import CAREFUL, is_presence_answer, parse_presence, presence_answer, presence_question
from studies.tiny_world.world import EVERYDAY, ICONS, Icon, Scene, fresh, sample_everyday

SUBSETS = ("random", "popular", "adversarial")
SEEDS: dict[Split, int] = {"train": 4101, "val": 4202, "test": 834217}
PER_SUBSET: dict[Split, int] = {"train": 340, "val": 200, "test": 540}


class ShapesPope(ListedTask[Example]):
    """Right or wrong about one object in the image.

    A pair is the right full answer against the wrong one, to the same question about the same image. The agnostic pair
    is the same for every example: the denial against the affirmation, whatever the image shows. That is one fixed
    caution against seeing too much, which is what a method that cannot tell the two behaviours apart could learn.
    """

    name = "shapes_pope"
    objective = "accuracy"
    prompt_suffix = CAREFUL
    max_new_tokens = 12
    metrics: tuple[Metric, ...] = (
        *YES_NO,
        ratio("on_topic", lambda row: _named(row["reply"]) == _named(row["question"])),
    )

    def items(self, split: Split) -> Sequence[Example]:
        return _examples(split)

    def example(self, item: Example) -> Example:
        return item

    def pair(self, item: Example) -> ContrastPair:
        asked = item.prompt
        word = _named(asked.question)
        forced = {answer: replace(asked, answer=presence_answer(word, answer)) for answer in ("yes", "no")}
        wrong = "no" if item.target == "yes" else "yes"
        agnostic = (forced["no"], forced["yes"])
        return ContrastPair(asked, forced[item.target], forced[wrong], item.behavior, item.id, agnostic)

    def parse(self, text: str) -> str:
        """ "yes", "no" or ""."""
        return parse_presence(text)

    def valid(self, text: str) -> bool:
        return is_presence_answer(text)


@drawn_once
def _examples(split: Split) -> Iterator[Example]:
    rng = np.random.default_rng(SEEDS[split])
    seen: set[Scene] = set()
    for subset in SUBSETS:
        for number in range(PER_SUBSET[split]):
            scene = fresh(seen, partial(sample_everyday, rng, split))
            truth = "yes" if number % 2 == 0 else "no"
            pool = [ICONS[word] for word in scene.icons] if truth == "yes" else absent(scene, subset)
            question = presence_question(_choose(rng, pool).word)
            prompt = Prompt(draw(scene, int(rng.integers(2**31))), question)
            yield Example(f"{split}-{subset}-{number:04d}", prompt, subset, truth, truth)


def absent(scene: Scene, subset: str) -> list[Icon]:
    """Everyday objects that the scene does not show and that this subset asks for."""
    missing = [icon for icon in EVERYDAY if icon.word not in scene.icons]
    if subset == "popular":
        return [icon for icon in missing if icon.popularity == 1]
    return missing if subset == "random" else [icon for icon in missing if icon.group == scene.theme]


def _choose(rng: Generator, icons: Sequence[Icon]) -> Icon:
    return icons[int(rng.integers(len(icons)))]


def _named(text: str) -> str:
    """The first object that the text names, or ""."""
    return next((word for word in text.split() if word in ICONS), "")

"""POPE on scenes of pictures that people recognise: is there such a thing in the picture?

As in POPE (arXiv:2305.10355) there are three subsets, each balanced: absent things are asked for at random, among the
common ones, or among those that go with the scene. Every scene is asked about twice, once about what it shows and once
about what it does not. No label is noisy, here or in what smol-llava was trained on.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from interv import Prompt
from methods import ContrastPair
from studies.measure import YES_NO, Metric
from studies.smol_world import language
from studies.smol_world.draw import draw_with
from studies.smol_world.scenes import ABSENCES, Scene, absent_word, sample_scene
from studies.tasks.cut_outs import CutOuts
from studies.tasks.listed import ListedTask
from studies.tasks.task import Example, Split

SEEDS: dict[Split, int] = {"train": 7101, "val": 7202, "test": 730157}
SCENES: dict[Split, int] = {"train": 54, "val": 20, "test": 150}  # of each subset; two questions a scene

_ANSWER = re.compile(r"Yes, there is an? [a-z ]+ in the picture\.|No, there is no [a-z ]+ in the picture\.")


class PicturesPope(ListedTask[tuple[Example, str]]):
    """Right or wrong about one thing in the picture.

    A pair is the right full answer against the wrong one, to the same question about the same picture. The agnostic
    pair is the same for every example: the denial against the affirmation, whatever the picture shows.
    """

    name = "pictures_pope"
    objective = "accuracy"
    prompt_suffix = "Examine the picture carefully and answer."
    max_new_tokens = 14
    metrics: tuple[Metric, ...] = YES_NO

    def __init__(self, cut_outs: CutOuts) -> None:
        self._cut_outs = cut_outs
        self._made: dict[Split, tuple[tuple[Example, str], ...]] = {}

    @classmethod
    def load(cls, folder: Path | None = None) -> "PicturesPope":
        """Over the shipped pictograms, or over the cut-outs in a folder."""
        return cls(CutOuts.load(folder))

    def items(self, split: Split) -> Sequence[tuple[Example, str]]:
        """Examples with the word that they ask about."""
        if split not in self._made:
            self._made[split] = tuple(_sampled(split, self._cut_outs))
        return self._made[split]

    def example(self, item: tuple[Example, str]) -> Example:
        return item[0]

    def pair(self, item: tuple[Example, str]) -> ContrastPair:
        example, word = item
        asked = example.prompt
        forced = {
            answer: replace(asked, answer=language.answer(word, present))
            for answer, present in (("yes", True), ("no", False))
        }
        wrong = "no" if example.target == "yes" else "yes"
        agnostic = (forced["no"], forced["yes"])
        return ContrastPair(asked, forced[example.target], forced[wrong], example.behavior, example.id, agnostic)

    def parse(self, text: str) -> str:
        """ "yes", "no" or ""."""
        first = re.match(r"\W*(yes|no)\b", text, re.IGNORECASE)
        return first[1].lower() if first else ""

    def valid(self, text: str) -> bool:
        """Whether the reply is one of the two whole sentences, and nothing else."""
        return bool(_ANSWER.fullmatch(text.strip()))


def _sampled(split: Split, cut_outs: CutOuts) -> Iterator[tuple[Example, str]]:
    rng = np.random.default_rng(SEEDS[split])
    seen: set[Scene] = set()
    for subset in ABSENCES:
        for number in range(SCENES[split]):
            while (scene := sample_scene(rng, split, cut_outs.things)) in seen:
                pass
            seen.add(scene)
            image, _ = draw_with(scene, rng, cut_outs.pictures)
            name = f"{split}-{subset}-{number:04d}"
            absent = absent_word(rng, scene, subset, cut_outs.things)
            for truth, word in (("yes", scene.words[rng.integers(len(scene.words))]), ("no", absent)):
                prompt = Prompt(image, language.question(word))
                yield Example(f"{name}-{truth}", prompt, subset, truth, truth, name), word

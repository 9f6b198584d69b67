"""CHAIR on scenes of pictures that people recognise: say what is in the picture, and nothing that is not."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from interv import Prompt
from methods import ContrastPair
from studies.measure import Metric
from studies.smol_world import language
from studies.smol_world.draw import draw_with
from studies.smol_world.scenes import Scene, absent_word, sample_scene
from studies.tasks.chair.words import Places, chair_metrics, listed
from studies.tasks.cut_outs import CutOuts
from studies.tasks.listed import ListedTask
from studies.tasks.task import Example, Split

SEEDS: dict[Split, int] = {"train": 8101, "val": 8202, "test": 860369}
SCENES: dict[Split, int] = {"train": 160, "val": 60, "test": 300}

_THING = r"an? [a-z]+(?: (?!(?:and )?an? )[a-z]+)*"
_CAPTION = re.compile(rf"The picture shows {_THING}(?:(?:, {_THING})* and {_THING})?\.")
_NAMED = re.compile(r"\ban? ([a-z ]+?)(?=,| and an? |\.|$)")
Item = tuple[Example, Scene, Image.Image]


class PicturesCaptions(ListedTask[Item]):
    """Describe a scene of two to four things.

    A pair is the right caption behind the picture, against the same words behind the picture with one of its things
    exchanged for another that goes with the scene: the words are the same, and what the model sees decides which of
    them are false. The agnostic pair is the same here, for there is one behaviour.
    """

    name = "pictures_captions"
    objective = "object_f1"
    prompt_suffix = "Name only what the picture shows."
    max_new_tokens = 40

    def __init__(self, cut_outs: CutOuts) -> None:
        self._cut_outs = cut_outs
        self._made: dict[Split, tuple[Item, ...]] = {}
        self.metrics: tuple[Metric, ...] = chair_metrics(self.named)

    @classmethod
    def load(cls, folder: Path | None = None) -> "PicturesCaptions":
        """Over the shipped pictograms, or over the cut-outs in a folder."""
        return cls(CutOuts.load(folder))

    def named(self, text: str) -> list[str]:
        """The things of the world that the text names, in order."""
        return [name for _, name in self.places(text)]

    def places(self, text: str) -> Places:
        """The same, with where their words begin."""
        known = self._cut_outs.things.theme_of
        return [(found.start(1), found[1]) for found in _NAMED.finditer(text) if found[1] in known]

    def items(self, split: Split) -> Sequence[Item]:
        """Examples, their scenes, and their pictures with one thing exchanged."""
        if split not in self._made:
            self._made[split] = tuple(self._sampled(split))
        return self._made[split]

    def example(self, item: Item) -> Example:
        return item[0]

    def pair(self, item: Item) -> ContrastPair:
        example, scene, other = item
        answer = language.caption(scene.words)
        right, wrong = (Prompt(image, language.CAPTION_REQUEST, answer) for image in (example.prompt.image, other))
        return ContrastPair(example.prompt, right, wrong, "caption", example.id, (right, wrong))

    def parse(self, text: str) -> str:
        """The things that the caption names, in alphabetical order."""
        return listed(self.named(text))

    def valid(self, text: str) -> bool:
        """Whether the reply is a caption of the form that training had, and nothing else."""
        return bool(_CAPTION.fullmatch(text.strip()))

    def _sampled(self, split: Split) -> Iterator[Item]:
        rng = np.random.default_rng(SEEDS[split])
        things, pictures = self._cut_outs.things, self._cut_outs.pictures
        seen: set[Scene] = set()
        for number in range(SCENES[split]):
            while (scene := sample_scene(rng, split, things)) in seen:
                pass
            seen.add(scene)
            seed = int(rng.integers(2**31))
            place = int(rng.integers(len(scene.words)))
            changed = [*scene.words]
            changed[place] = absent_word(rng, scene, "adversarial", things)
            # The same seed puts the other things where they were.
            image, other = (
                draw_with(one, np.random.default_rng(seed), pictures)[0]
                for one in (scene, replace(scene, words=tuple(changed)))
            )
            prompt = Prompt(image, language.CAPTION_REQUEST)
            name, subset = f"{split}-caption-{number:04d}", f"{len(scene.words)} things"
            yield Example(name, prompt, subset, "caption", listed(scene.words)), scene, other

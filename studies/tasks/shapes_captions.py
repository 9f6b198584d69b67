"""CHAIR on the embedded world: describe the image, and name what it shows and nothing else."""

import re
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
from PIL import Image

from interv import Prompt
from methods import ContrastPair
from studies.measure import Metric
from studies.tasks.chair.words import Places, chair_metrics, listed
from studies.tasks.listed import ListedTask, drawn_once
from studies.tasks.task import Example, Split
from studies.tiny_world.draw import draw
from studies.tiny_world.language import CAPTION_REQUESTS, CAREFUL, caption, is_caption
from studies.tiny_world.world import CELLS, EVERYDAY, ICONS, Icon, Scene, fresh, sample_everyday

SEEDS: dict[Split, int] = {"train": 6101, "val": 6202, "test": 75403}
COUNTS: dict[Split, int] = {"train": 600, "val": 400, "test": 600}
REQUEST = CAPTION_REQUESTS[1]
_ORDER = list(ICONS)


def named(text: str) -> list[str]:
    """The icons that the text names, in order."""
    return [word for word in text.split() if word in ICONS]


def placed(text: str) -> Places:
    """The same, with where they begin."""
    return [(word.start(), word[0]) for word in re.finditer(r"\S+", text) if word[0] in ICONS]


class ShapesCaptions(ListedTask[tuple[Example, Scene]]):
    """Describe a scene of three to five objects.

    A pair is the right caption of two images, read while it is said: of the image itself, where it is complete, and of
    the same scene with the most expected absent object drawn in, where it leaves something out. (Contrasts of a right
    and a wrong caption of one image, of its first wrong word, or of the last prompt token, gave nothing on validation:
    what invents objects is the habit of going on.) The agnostic pair is the same here, for there is one behaviour.
    """

    name = "shapes_captions"
    objective = "object_f1"
    prompt_suffix = CAREFUL
    max_new_tokens = 40
    metrics: tuple[Metric, ...] = chair_metrics(named)

    def items(self, split: Split) -> Sequence[tuple[Example, Scene]]:
        return scenes(split)

    def example(self, item: tuple[Example, Scene]) -> Example:
        return item[0]

    def pair(self, item: tuple[Example, Scene]) -> ContrastPair:
        """The right caption behind the image, against the same words behind the image with one object more."""
        example, scene = item
        answer = caption(sorted(scene.icons, key=_ORDER.index))
        right, wrong = (Prompt(image, REQUEST, answer=answer) for image in (example.prompt.image, fuller(scene)))
        return ContrastPair(example.prompt, right, wrong, "caption", example.id, (right, wrong))

    def parse(self, text: str) -> str:
        """The objects that the caption names, in alphabetical order."""
        return listed(named(text))

    def places(self, text: str) -> Places:
        """Where the caption names objects, and which."""
        return placed(text)

    def valid(self, text: str) -> bool:
        """Whether the reply is a caption of the language."""
        return is_caption(text)


def fuller(scene: Scene) -> Image.Image:
    """The scene with the most expected absent object in a free cell."""
    rng = np.random.default_rng([*scene.cells, _ORDER.index(scene.icons[0])])
    free = [cell for cell in range(CELLS) if cell not in scene.cells]
    placed = [*zip(scene.cells, scene.icons, strict=True), (int(rng.choice(free)), expected(scene).word)]
    cells, words = zip(*sorted(placed), strict=True)
    return draw(Scene(words, cells, scene.theme), int(rng.integers(2**31)))


def expected(scene: Scene) -> Icon:
    """The absent object that the scene's theme and popularity suggest most."""
    absent = [icon for icon in EVERYDAY if icon.word not in scene.icons]
    return max(absent, key=lambda icon: (icon.group == scene.theme, icon.popularity))


@drawn_once
def scenes(split: Split) -> Iterator[tuple[Example, Scene]]:
    rng = np.random.default_rng(SEEDS[split])
    seen: set[Scene] = set()
    for number in range(COUNTS[split]):
        scene = fresh(seen, partial(sample_everyday, rng, split))
        prompt = Prompt(draw(scene, int(rng.integers(2**31))), REQUEST)
        subset, target = f"{len(scene.icons)} objects", listed(scene.icons)
        yield Example(f"{split}-caption-{number:04d}", prompt, subset, "caption", target), scene

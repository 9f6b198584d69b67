"""CHAIR: which objects does a description invent? COCO images with COCO's annotations (arXiv:1809.02156).

    python studies/compare.py --task chair --model llava-hf/llava-1.5-7b-hf --data <folder>

The folder's layout is in `chair/files.py`, at `load_images`; `synonyms.txt` lies there too.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

from methods import ContrastPair
from studies.judges.panel import Panel, mean_mark, without_mark
from studies.judges.questions import Duel, compare_captions
from studies.judges.verdicts import Verdicts
from studies.measure import Metric
from studies.recipes.named import CHAIR_LLAVA
from studies.recipes.recipe import Recipe
from studies.tasks.chair.files import Shown, load_images, notes
from studies.tasks.chair.words import Places, Vocabulary, chair_metrics, listed
from studies.tasks.listed import Benchmark, parted
from studies.tasks.reading import Flaw
from studies.tasks.task import Example, Row, Split

REQUEST = "Describe the image in detail."  # arXiv:2508.12815, App. B.3
NAMED = 3  # objects in a forced answer at most
DUEL = "duel"  # the field of rows whose caption differs from the unsteered model's
TRAINING = 700  # images beside the pinned ones that are used at most


class Chair(Benchmark[Shown]):
    """Name what the image shows and nothing else.

    The test images are the pinned ones. Training and validation images are others of the folder; where it has too few,
    the pinned list is split as the recipe says. A row's target lists the objects in the image, `parsed` those that the
    caption names; metrics are in `chair_metrics`. A valid caption is well-formed free text. With a judge, win_rate is
    the share of the changed captions that it prefers to the unsteered model's, and undecided the share without its
    verdict; judges_agree tells how often a second one prefers the same.

    A pair's wanted answer names objects that the image shows, the unwanted one as many that it does not: those that
    most often come with them in the training images. This is ours: the paper steers captions with POPE's vectors.
    """

    name = "chair"
    objective = "object_f1"

    def __init__(
        self,
        images: Sequence[Shown],
        vocabulary: Vocabulary,
        recipe: Recipe = CHAIR_LLAVA,
        flaws: Sequence[Flaw] = (),
        panel: Panel | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        super().__init__(_split(images, recipe), recipe, flaws, notes, panel)
        self.vocabulary = vocabulary
        self.metrics: tuple[Metric, ...] = (*chair_metrics(vocabulary.mentions), *self._judged_metrics())
        self._together = _together([image.objects for image in self.items("train")])

    @classmethod
    def load(cls, data: Path | None, recipe: Recipe = CHAIR_LLAVA, panel: Panel | None = None) -> "Chair":
        """From a folder; raises ValueError without one, for COCO is not a data set of the hub."""
        if data is None:
            raise ValueError("CHAIR needs COCO: give --data with its annotations, images and CHAIR's synonyms.txt.")
        vocabulary = Vocabulary.load(data / "synonyms.txt")
        images, flaws = load_images(data, vocabulary)
        return cls(images, vocabulary, recipe, flaws, panel, notes(data))

    def example(self, item: Shown) -> Example:
        return Example(str(item.id), self.recipe.prompt(item.image, REQUEST), "coco", "caption", listed(item.objects))

    def pair(self, item: Shown) -> ContrastPair:
        asked = self.recipe.prompt(item.image, REQUEST)
        there = item.objects[:NAMED]
        forced = [replace(asked, answer=sentence(names)) for names in (there, self.invented(item.objects))]
        return ContrastPair(asked, forced[0], forced[1], "caption", str(item.id), (forced[0], forced[1]))

    def invented(self, objects: Sequence[str]) -> tuple[str, ...]:
        """Objects that are not there and most often come with those that are."""
        scores: Counter[str] = Counter()
        for name in objects:
            scores.update(self._together.get(name, {}))
        absent = sorted({*self.vocabulary.objects.values()} - {*objects}, key=lambda name: (-scores[name], name))
        return tuple(absent[: max(1, min(NAMED, len(objects)))])

    def parse(self, text: str) -> str:
        """The objects that the caption names, listed in alphabetical order."""
        return listed(self.vocabulary.mentions(text))

    def places(self, text: str) -> Places:
        """Where the caption names objects, and which."""
        return self.vocabulary.places(text)

    def judged(self, rows: Sequence[Row], file: Path | None = None) -> list[Row]:
        """The test rows with each judge's mark: 1 where it prefers the caption to the unsteered model's, 0 where not.

        Equal captions are not shown to a judge. Verdicts are kept in, and read from, the file, and what stays without
        one is noted beside it.
        """
        plain = {row["id"]: row["reply"] for row in rows if row["method"] == "NoSteering" and row["split"] == "test"}
        dueling = [place for place, row in enumerate(rows) if row["reply"] != plain.get(row["id"], row["reply"])]
        images = {str(image.id): image.image for image in self.items("test")}
        duels = [
            Duel(rows[i]["id"], images.get(rows[i]["id"]), rows[i]["reply"], plain[rows[i]["id"]]) for i in dueling
        ]
        marked = [dict(row) for row in rows]
        for place in dueling:
            marked[place][DUEL] = True
        if not duels:
            return marked
        verdicts = Verdicts(file)
        for field, values in self.panel.marks(lambda judge: compare_captions(judge, duels, verdicts), file).items():
            for place, value in zip(dueling, values, strict=True):
                marked[place][field] = None if value is None else int(value == "one")
        return marked

    def _judged_metrics(self) -> tuple[Metric, ...]:
        if not self.panel.judges:
            return ()
        return (mean_mark("win_rate"), without_mark("undecided", DUEL), *self.panel.agreement())


def sentence(names: Sequence[str]) -> str:
    """The start of a description that names these objects."""
    if not names:
        return "The image shows none of the common objects."
    phrases = [f"{'an' if name[0] in 'aeiou' else 'a'} {name}" for name in names]
    return (
        "The image shows "
        + (" and ".join([", ".join(phrases[:-1]), phrases[-1]]) if len(names) > 1 else phrases[0])
        + "."
    )


def _together(images: Sequence[Sequence[str]]) -> dict[str, Counter[str]]:
    """How often two objects are in one image."""
    counts: dict[str, Counter[str]] = {}
    for objects in images:
        for one, other in combinations(objects, 2):
            counts.setdefault(one, Counter())[other] += 1
            counts.setdefault(other, Counter())[one] += 1
    return counts


def _split(images: Sequence[Shown], recipe: Recipe) -> dict[Split, list[Shown]]:
    """Raises ValueError where a split would be empty."""
    pinned = [image for image in images if image.pinned]
    others = [image for image in images if not image.pinned and image.objects]
    splits = parted(pinned, recipe)
    if len(others) >= len(pinned):
        train, validation, _ = recipe.split
        chosen = parted(others, replace(recipe, split=(1, 0, 0)))["train"][:TRAINING]
        first = len(chosen) * train // (train + validation)
        splits = {"train": chosen[:first], "val": chosen[first:], "test": pinned}
    if not all(splits.values()):
        raise ValueError(f"{len(images)} images are too few for training, validation and test; give more.")
    return splits

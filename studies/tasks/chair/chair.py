"""CHAIR: which objects does a description invent? COCO images with COCO's annotations (arXiv:1809.02156).

    python studies/compare.py --task chair --model llava-hf/llava-1.5-7b-hf --data <folder>

The folder's layout is in `chair_files.load_images`; `synonyms.txt` lies there too.
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
from studies.measure import Metric, estimate
from studies.recipes.named import CHAIR_LLAVA
from studies.recipes.recipe import Recipe
from studies.tasks.chair.files import Shown, load_images
from studies.tasks.chair.words import Vocabulary, chair_metrics, listed
from studies.tasks.free_text import well_formed
from studies.tasks.reading import Flaw
from studies.tasks.task import Example, Row, Split

REQUEST = "Describe the image in detail."  # arXiv:2508.12815, App. B.3
NAMED = 3  # objects in a forced answer at most
DUEL = "duel"  # the field of rows whose caption differs from the unsteered model's
TRAINING = 700  # images beside the pinned ones that are used at most


class Chair:
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
    ) -> None:
        self.recipe = recipe
        self.flaws = tuple(flaws)
        self.vocabulary = vocabulary
        self.prompt_suffix = recipe.prompt_suffix
        self.max_new_tokens = recipe.max_new_tokens
        self.panel = panel or Panel()
        self.metrics: tuple[Metric, ...] = (*chair_metrics(vocabulary.mentions), *self._judged_metrics())
        self._images = _split(images, recipe)
        self._together = _together([image.objects for image in self._images["train"]])

    @classmethod
    def load(cls, data: Path | None, recipe: Recipe = CHAIR_LLAVA, panel: Panel | None = None) -> "Chair":
        """From a folder; raises ValueError without one, for COCO is not a data set of the hub."""
        if data is None:
            raise ValueError("CHAIR needs COCO: give --data with its annotations, images and CHAIR's synonyms.txt.")
        vocabulary = Vocabulary.load(data / "synonyms.txt")
        images, flaws = load_images(data, vocabulary)
        return cls(images, vocabulary, recipe, flaws, panel)

    def prompts(self, split: Split) -> list[Example]:
        return [
            Example(str(image.id), self.recipe.prompt(image.image, REQUEST), "coco", "caption", listed(image.objects))
            for image in self._images[split]
        ]

    def pairs(self, split: Split) -> list[ContrastPair]:
        return [self._pair(image) for image in self._images[split]]

    def _pair(self, image: Shown) -> ContrastPair:
        asked = self.recipe.prompt(image.image, REQUEST)
        there = image.objects[:NAMED]
        forced = [replace(asked, answer=sentence(names)) for names in (there, self.invented(image.objects))]
        return ContrastPair(asked, forced[0], forced[1], "caption", str(image.id), (forced[0], forced[1]))

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

    def valid(self, text: str) -> bool:
        return well_formed(text)

    def score(self, rows: Sequence[Row]) -> list[Row]:
        return estimate(rows, self.metrics)

    def judged(self, rows: Sequence[Row], file: Path | None = None) -> list[Row]:
        """The test rows with each judge's mark: 1 where it prefers the caption to the unsteered model's, 0 where not.

        Equal captions are not shown to a judge. Verdicts are kept in, and read from, the file, and what stays without
        one is noted beside it.
        """
        plain = {row["id"]: row["reply"] for row in rows if row["method"] == "NoSteering" and row["split"] == "test"}
        dueling = [place for place, row in enumerate(rows) if row["reply"] != plain.get(row["id"], row["reply"])]
        images = {str(image.id): image.image for image in self._images["test"]}
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
    train, validation, _ = recipe.split
    if len(others) >= len(pinned):
        chosen = [others[place] for place in replace(recipe, split=(1, 0, 0)).indices(len(others))[0][:TRAINING]]
        first = len(chosen) * train // (train + validation)
        parts = [chosen[:first], chosen[first:], pinned]
    else:
        parts = [[pinned[place] for place in places] for places in recipe.indices(len(pinned))]
    if not all(parts):
        raise ValueError(f"{len(images)} images are too few for training, validation and test; give more.")
    return {"train": parts[0], "val": parts[1], "test": parts[2]}

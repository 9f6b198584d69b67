"""POPE: does the image show this object? Real images and the official questions (arXiv:2305.10355).

    python studies/compare.py --task pope --model llava-hf/llava-1.5-7b-hf --data <folder>

The folder's layouts are in `pope/files.py`, at `find_questions`.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from methods import ContrastPair
from studies.measure import YES_NO, Metric, ratio
from studies.recipes.named import PAPER_POPE_LLAVA
from studies.recipes.recipe import Recipe
from studies.tasks.listed import Benchmark, parted
from studies.tasks.pope.files import Question, find_questions
from studies.tasks.reading import Flaw
from studies.tasks.task import Example, Row, Split

FIRST_TOKENS, FIRST_CHARACTERS = 12, 15  # the paper's window, App. B.3, and the published code's


def parse_first_word(text: str) -> str:
    """The first "yes" or "no" as a word of its own, in any case; "" where there is neither."""
    found = re.search(r"\b(yes|no)\b", text.lower())
    return found.group() if found else ""


def parse_first_characters(text: str) -> str:
    """The first "yes" or "no" that begins in the first 15 characters and ends there, inside other words too.

    Source: published code, where "no" also matches "snow". There the wanted word is looked for; see
    `published_accuracy` for a reply that has both.
    """
    found = re.search("yes|no", text[:FIRST_CHARACTERS].lower())
    return found.group() if found else ""


def parse_official(text: str) -> str:
    """ "no" if the first sentence has the word No, no or not, else "yes": an empty reply too.

    Source: POPE's evaluate.py.
    """
    words = text.split(".")[0].replace(",", "").split(" ")
    return "no" if {"No", "not", "no"} & set(words) else "yes"


def _published(row: Row) -> float:
    """Whether the wanted word is anywhere in the reply's first 15 characters. Source: published code."""
    return float(row["target"] in row["reply"][:FIRST_CHARACTERS].lower())


def _official(row: Row, *wanted: str) -> float:
    """1 if the official parser's label, and the target, are the wanted ones."""
    return float((parse_official(row["reply"]), row["target"]) == wanted)


def _says(row: Row) -> float:
    return float(parse_official(row["reply"]) == "yes")


PUBLISHED = (
    ratio("accuracy_published", _published),
    # 2a / (1 + a) of that accuracy a: F1 with every item taken for a "yes".
    ratio("f1_published", lambda row: 2 * _published(row), lambda row: 1 + _published(row)),
)
OFFICIAL = (
    ratio("accuracy_official", lambda row: _official(row, "yes", "yes") + _official(row, "no", "no")),
    ratio(
        "f1_official",
        lambda row: 2 * _official(row, "yes", "yes"),
        lambda row: _says(row) + float(row["target"] == "yes"),
    ),
)


class Pope(Benchmark[Question]):
    """Right or wrong about one object in a real image.

    Metrics are those of `YES_NO` on the labels of the recipe's parser, "yes" positive, and from the replies themselves:
     - accuracy_official, f1_official: by POPE's own parser;
     - accuracy_published, f1_published: as the paper computes its tables. The first looks for the wanted word in 15
       characters; the second is 2a / (1 + a) of it, which is no F1 of the yes class.
    A valid reply is well-formed free text (`studies/tasks/free_text.py`), whatever it says.

    Splits share no image: images are split as the recipe says (70/10/20 in the order of a seeded shuffle), unless the
    files themselves are divided into train and test; then validation is taken from train. All images that the files
    name are split, those that cannot be used too, so that the others stay where they are once these are repaired.
    """

    name = "pope"
    objective = "accuracy"
    metrics: tuple[Metric, ...] = (*YES_NO, *OFFICIAL, *PUBLISHED)

    def __init__(
        self,
        questions: Sequence[Question],
        recipe: Recipe = PAPER_POPE_LLAVA,
        flaws: Sequence[Flaw] = (),
        notes: Sequence[str] = (),
    ) -> None:
        flaws = (*flaws, *(Flaw(question.id, question.flaw) for question in questions if question.flaw))
        super().__init__(_split(questions, recipe), recipe, flaws, notes)
        if recipe.parser == "first_12_tokens":
            self.max_new_tokens = min(recipe.max_new_tokens, FIRST_TOKENS)

    @classmethod
    def load(cls, data: Path | None = None, recipe: Recipe = PAPER_POPE_LLAVA) -> "Pope":
        """From a folder or file in one of POPE's layouts, or (None) from the hub; see `find_questions`."""
        found = find_questions(data)
        questions, flaws = found.usable()
        return cls(questions, recipe, flaws, found.notes)

    def example(self, item: Question) -> Example:
        asked = self.recipe.prompt(item.image, item.text)
        return Example(item.id, asked, item.subset, item.label, item.label, item.image_name)

    def pair(self, item: Question) -> ContrastPair:
        """The right answer against the wrong one; the agnostic pair is "no" against "yes", whatever is right."""
        denial = self.recipe.pair(item.image, item.text, "no")
        own = self.recipe.pair(item.image, item.text, item.label, item.id)
        return replace(own, agnostic=(denial.positive, denial.negative))

    def parse(self, text: str) -> str:
        """ "yes", "no" or "", by the recipe's parser; a reply of 12 tokens at most is searched whole."""
        return (parse_first_characters if self.recipe.parser == "first_15_characters" else parse_first_word)(text)


def _split(questions: Sequence[Question], recipe: Recipe) -> dict[Split, list[Question]]:
    """Each split's questions that can be asked. Raises ValueError where a split would be empty."""
    told = any(question.part for question in questions)
    images = list(dict.fromkeys(q.image_name for q in questions if q.part != "test"))
    parts = (*recipe.split[:2], 0) if told else recipe.split
    images_of = parted(images, replace(recipe, split=parts))
    home = {image: split for split, own in images_of.items() for image in own}
    splits: dict[Split, list[Question]] = {split: [] for split in images_of}
    for question in questions:
        if not question.flaw:
            splits["test" if question.part == "test" else home[question.image_name]].append(question)
    splits["test"] = _by_subset(splits["test"])
    if empty := [split for split, own in splits.items() if not own]:
        usable = len({question.image_name for question in questions if not question.flaw})
        raise ValueError(
            f"{recipe.name} splits {len(images)} images {recipe.split}, of which {usable} can be used, and that leaves "
            f"{', '.join(empty)} empty. Give more images, another split, or a folder with train/ and test/."
        )
    return splits


def _by_subset(questions: Sequence[Question]) -> list[Question]:
    """The test's questions, subset by subset where some are asked in every one. Source: the published code."""
    if not any(question.everywhere for question in questions):
        return list(questions)
    return [
        q if q.subset == subset else replace(q, subset=subset, id=f"{q.id}-{subset}")
        for subset in sorted({question.subset for question in questions})
        for q in questions
        if q.everywhere or q.subset == subset
    ]

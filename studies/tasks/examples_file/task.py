"""A file's rows as a task that the studies run on."""

import re
from dataclasses import replace

from methods import ContrastPair
from studies.measure import YES_NO, Metric, accuracy, unparsable, valid
from studies.recipes.recipe import Recipe
from studies.tasks.examples_file.data import Data
from studies.tasks.examples_file.row import Item
from studies.tasks.examples_file.splitting import split_by_image
from studies.tasks.listed import Benchmark
from studies.tasks.task import Example


class OwnTask(Benchmark[Item]):
    """Rows with a target: a reply is right that says it.

    The label of a reply is the one of all the file's targets that comes first in it as words of its own, in any case,
    and "" where none does; of two that begin at the same place the longer one. A valid reply is well-formed free text.
    """

    objective = "accuracy"

    def __init__(self, data: Data, recipe: Recipe) -> None:
        if not data.items:
            reasons = "; ".join(f"{flaw.id} {flaw.reason}" for flaw in data.flaws[:3])
            raise ValueError(f"No row of {data.source} can be used. The first reasons: {reasons}.")
        super().__init__(split_by_image(data.items, recipe), recipe, data.flaws)
        self.name, self.data = data.name, data
        self.labels = tuple(sorted({item.target.lower() for item in data.items if item.target}, key=len, reverse=True))
        self.metrics: tuple[Metric, ...] = (accuracy, unparsable, valid)
        if set(self.labels) == {"yes", "no"}:
            self.metrics = YES_NO
        words = "|".join(map(re.escape, self.labels))
        self._label = re.compile(rf"(?<!\w)(?:{words})(?!\w)", re.IGNORECASE) if self.labels else None

    @property
    def has_targets(self) -> bool:
        """Whether every row says what a right reply is."""
        return all(item.target for item in self.data.items)

    def example(self, item: Item) -> Example:
        kind = item.behavior or "all"
        return Example(item.id, item.prompt, kind, item.behavior, item.target.lower(), item.unit)

    def pair(self, item: Item) -> ContrastPair:
        positive, negative = (replace(item.prompt, answer=text) for text in (item.positive, item.negative))
        return ContrastPair(item.prompt, positive, negative, item.behavior, item.id)

    def parse(self, text: str) -> str:
        found = self._label.search(text) if self._label else None
        return found[0].lower() if found else ""

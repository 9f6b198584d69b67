"""What all tasks do alike: each split is a list of items, every item one example and one contrast pair."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Generic, TypeVar

from methods import ContrastPair
from studies.judges.panel import Panel
from studies.measure import Metric, Record, Row, estimate
from studies.recipes.recipe import Recipe
from studies.tasks.free_text import well_formed
from studies.tasks.reading import Flaw
from studies.tasks.task import Example, Split

SPLITS: tuple[Split, ...] = ("train", "val", "test")
T = TypeVar("T")


def drawn_once(sample: Callable[[Split], Iterator[T]]) -> Callable[[Split], tuple[T, ...]]:
    """The sampled items of a split, kept for whoever asks again."""
    return cache(lambda split: tuple(sample(split)))


class ListedTask(ABC, Generic[T]):
    """A task that knows its items; `metrics` is an attribute of each."""

    metrics: tuple[Metric, ...]

    @abstractmethod
    def items(self, split: Split) -> Sequence[T]: ...

    @abstractmethod
    def example(self, item: T) -> Example: ...

    @abstractmethod
    def pair(self, item: T) -> ContrastPair: ...

    def prompts(self, split: Split) -> list[Example]:
        return [self.example(item) for item in self.items(split)]

    def pairs(self, split: Split) -> list[ContrastPair]:
        return [self.pair(item) for item in self.items(split)]

    def score(self, rows: Sequence[Row]) -> list[Record]:
        return estimate(rows, self.metrics)


class Benchmark(ListedTask[T]):
    """A task on files, asked as a recipe says; what it does not know of its data is in `flaws` and `notes`.

    Attributes:
        flaws: items that cannot be used.
        notes: sentences about the data as a whole, which belong to every result.
    """

    def __init__(
        self,
        splits: dict[Split, list[T]],
        recipe: Recipe,
        flaws: Sequence[Flaw] = (),
        notes: Sequence[str] = (),
        panel: Panel | None = None,
    ) -> None:
        self.recipe, self.panel = recipe, panel or Panel()
        self.flaws, self.notes = tuple(flaws), tuple(notes)
        self.prompt_suffix, self.max_new_tokens = recipe.prompt_suffix, recipe.max_new_tokens
        self._splits = splits

    def items(self, split: Split) -> Sequence[T]:
        return self._splits[split]

    def valid(self, text: str) -> bool:
        return well_formed(text)


def parted(items: Sequence[T], recipe: Recipe) -> dict[Split, list[T]]:
    """The items of each split, as the recipe shuffles and parts them."""
    places = zip(SPLITS, recipe.indices(len(items)), strict=True)
    return {split: [items[place] for place in own] for split, own in places}

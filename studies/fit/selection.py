"""Layers and strength, chosen on validation by one rule for every method."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from studies.measure import GROUP, Record, Row, by_setting, called, estimate, group
from studies.recipes import Recipe
from studies.tasks.task import Example, Task

# Fine at the low end, since a random or a mean vector breaks the text long before a predicted one does.
STRENGTHS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0)
BUDGET = 0.10  # of the unsteered share of well-formed replies that steering may cost; arXiv:2508.12815, Sec. 4
FINALISTS = 3  # settings of a method that all validation examples decide between
T = TypeVar("T")
NOT_DRAWN = ("precision", "recall", "unparsable", "on_topic")  # in the table, but no curves of them


@dataclass(frozen=True)
class Grid:
    """The candidates: every method tries each of its strengths at each of its layers."""

    writes: tuple[int, ...]
    reads: tuple[int, ...]
    strengths: tuple[float, ...]

    @classmethod
    def of(cls, recipe: Recipe, n_layers: int, strengths: Sequence[float] | None) -> "Grid":
        """What the recipe leaves open: the blocks that it says are to be tried, and those of them that the model has.

        Where it says none: steering about the middle, contexts from there and from the last block.
        """
        middle = n_layers // 2 - 1
        tried = (recipe.tried_writes, recipe.tried_reads)
        among_writes, among_reads = (tuple(layer for layer in layers if layer < n_layers) for layers in tried)
        writes = (among_writes or (middle, middle + 1)) if recipe.writes is None else (recipe.writes,)
        reads = (among_reads or (middle, n_layers - 1)) if recipe.reads is None else (recipe.reads,)
        default = (recipe.tried_strengths or STRENGTHS) if recipe.strength is None else (recipe.strength,)
        return cls(tuple(sorted(set(writes))), tuple(sorted(set(reads))), tuple(strengths or default))

    def captured(self, n_layers: int) -> list[int]:
        """The blocks that contrasts are needed of: those beside a steered one too."""
        steered = {near for block in self.writes for near in neighbours(block, n_layers)}
        return sorted({*steered, *self.reads})


def neighbours(block: int, n_layers: int) -> list[int]:
    """The block and those beside it, where a method that steers several blocks steers."""
    return [near for near in (block - 1, block, block + 1) if 0 <= near < n_layers]


@dataclass(frozen=True)
class Choice:
    """A method's setting and what it scored on validation."""

    method: str
    strength: float | None
    reads: int | None
    writes: int | None
    objective: float
    valid: float
    variant: str | None = None

    @property
    def name(self) -> str:
        """The method, and its variant where it is one."""
        return called(vars(self))

    def matches(self, row: Row) -> bool:
        return group(row) == tuple(getattr(self, name) for name in GROUP)


def ranked(rows: Sequence[Row], task: Task) -> list[Choice]:
    """All settings among validation rows, best first.

    Settings within the budget come before those outside it; then the objective decides, and of equals the weaker
    strength is taken. A method none of whose settings keeps within the budget thus gets the best that it has.
    """
    metrics = [metric for metric in task.metrics if metric.name in (task.objective, "valid")]
    choices = []
    for named, own in by_setting(rows):
        values = {r["metric"]: r["value"] for r in estimate(own, metrics, resamples=1) if r["subset"] == "all"}
        choices.append(Choice(**named, objective=values[task.objective], valid=values["valid"]))
    least = floor(choices)
    return sorted(
        choices, key=lambda c: (c.valid < least, -c.objective, c.strength or 0.0, c.writes or 0, c.reads or 0)
    )


def floor(choices: Sequence[Choice], budget: float = BUDGET) -> float:
    """The least share of well-formed replies that keeps within the budget."""
    unsteered = next((choice.valid for choice in choices if choice.method == "NoSteering"), 1.0)
    return (1 - budget) * unsteered


def finalists(choices: Sequence[Choice]) -> list[Choice]:
    """The first few settings of each method."""
    return first_of_each(choices, lambda choice: choice.name, FINALISTS)


def winners(choices: Sequence[Choice]) -> dict[str, Choice]:
    """The first setting of each method, by its name; a method's variants are methods of their own here."""
    return {choice.name: choice for choice in first_of_each(choices, lambda choice: choice.name)}


def thinned(examples: Sequence[Example], per_subset: int | None) -> list[Example]:
    """The first examples of each subset; all where no number is given."""
    return [*examples] if per_subset is None else first_of_each(examples, lambda one: one.subset, per_subset)


def first_of_each(items: Iterable[T], key: Callable[[T], Hashable], count: int = 1) -> list[T]:
    """The first `count` items of each key, in the order in which they came."""
    seen: Counter[Hashable] = Counter()
    kept = []
    for item in items:
        seen[key(item)] += 1
        if seen[key(item)] <= count:
            kept.append(item)
    return kept


def drawn(task: Task) -> list[str]:
    """The task's metrics of which curves are drawn."""
    return [metric.name for metric in task.metrics if metric.name not in NOT_DRAWN]


def curves(rows: Sequence[Row], task: Task, best: dict[str, Choice]) -> list[Record]:
    """Metrics against strength for every method, at the layers that were chosen for it."""

    def at_chosen_layers(row: Row) -> bool:
        choice = best.get(called(row))
        return choice is not None and (row["reads"], row["writes"]) == (choice.reads, choice.writes)

    return [
        {"task": task.name, **named, **record}
        for named, own in by_setting(filter(at_chosen_layers, rows))
        for record in estimate(own, task.metrics)
    ]

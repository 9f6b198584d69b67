"""What every task gives a study: examples to answer, contrast pairs to learn from, a parser and a score."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from interv import Prompt
from methods import ContrastPair
from studies.measure import Metric, Record, Row

Split = Literal["train", "val", "test"]


@dataclass(frozen=True)
class Example:
    """One question to answer.

    Attributes:
        id: unique over all splits.
        target: the wanted value of `Task.parse(reply)`.
        unit: what the example has in common with others about the same image, which the bootstrap draws together; its
            own id by default.
    """

    id: str
    prompt: Prompt
    subset: str
    behavior: str
    target: str
    unit: str = ""

    def __post_init__(self) -> None:
        if not self.unit:
            object.__setattr__(self, "unit", self.id)


@runtime_checkable
class Task(Protocol):
    """Splits share no image. `pairs(split)` and `prompts(split)` list the same examples in the same order.

    Attributes:
        objective: the metric that the choice of layers and strength maximises on validation.
        prompt_suffix: the words of the prompt baseline.
        max_new_tokens: enough for a whole reply.
        metrics: what is measured; one of them is "valid".
    """

    @property
    def name(self) -> str: ...

    @property
    def objective(self) -> str: ...

    @property
    def prompt_suffix(self) -> str: ...

    @property
    def max_new_tokens(self) -> int: ...

    @property
    def metrics(self) -> tuple[Metric, ...]: ...

    def pairs(self, split: Split) -> list[ContrastPair]: ...

    def prompts(self, split: Split) -> list[Example]: ...

    def parse(self, text: str) -> str:
        """The reply's label, or "" where it has none."""
        ...

    def valid(self, text: str) -> bool:
        """Whether the reply is a well-formed sentence of the task: the quality that steering must not break."""
        ...

    def score(self, rows: Sequence[Row]) -> list[Record]:
        """Metric records of rows that share one method, strength and layers."""
        ...

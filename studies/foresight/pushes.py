"""What adding a vector can reach, by the first token alone: one direction for all inputs, and each input's own.

The direction and the own vectors come from a pass over forced answers, the contrasts; no reply is decoded.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from interv import VLM
from methods import P2S, ContrastBank, capture_contrasts
from methods.asking import ask
from studies.fit.controls import ConstantDirection
from studies.fit.selection import Grid
from studies.fit.setting import Setting
from studies.foresight.words import Words
from studies.recipes import Recipe
from studies.tasks.task import Example, Split, Task

SIDE_BY_SIDE = 8  # settings of one prompt in a batch


@dataclass(frozen=True, eq=False)
class Pushes:
    """A model, a task and the words in whose logits the effect of a push is seen."""

    vlm: VLM
    task: Task
    recipe: Recipe
    words: Words
    batch_size: int = 32

    def contrasts(self, split: Split, examples: Sequence[Example], blocks: Sequence[int]) -> ContrastBank:
        """Of these examples, at these blocks."""
        wanted = {example.id for example in examples}
        pairs = [self.recipe.adapted(pair) for pair in self.task.pairs(split) if pair.id in wanted]
        files = all(isinstance(pair.prompt.image, str | Path) for pair in pairs)
        return capture_contrasts(
            self.vlm,
            pairs,
            batch_size=max(1, self.batch_size // 4),  # a pair is a prompt with four completions at most
            layers=sorted(set(blocks)),
            order="image" if files else "given",
            **self.recipe.capturing(pairs),
        )

    def constant(self, bank: ContrastBank, grid: Grid) -> list[Setting]:
        """The mean direction of these contrasts at each strength, towards either answer."""
        signed = [sign * strength for strength in grid.strengths for sign in (1, -1)]
        return self._settings(lambda block: ConstantDirection.fit(bank.at(block, block)), grid, signed)

    def oracle(self, bank: ContrastBank, grid: Grid) -> list[Setting]:
        """Each input's own vector at each strength."""
        return self._settings(lambda block: P2S.fit(bank.at(block, block)), grid, grid.strengths)

    def _settings(
        self, fit: Callable[[int], ConstantDirection | P2S], grid: Grid, strengths: Sequence[float]
    ) -> list[Setting]:
        steerers = [replace(fit(block), scope=self.recipe.scope) for block in grid.writes]
        return [Setting(steerer, strength) for steerer in steerers for strength in strengths]

    def answers(
        self,
        examples: Sequence[Example],
        settings: Sequence[Setting],
        bank: ContrastBank | None = None,
        advance: Callable[[int], object] = lambda done: None,
    ) -> list[list[str]]:
        """For each setting, what the first token of the reply to each example says; `bank` holds the own vectors."""
        said: list[list[str]] = [[] for _ in settings]
        steerers = [*{setting.steerer.writes: setting.steerer for setting in settings}.values()]
        place = {} if bank is None else {id_: row for row, id_ in enumerate(bank.id)}

        def own(chunk: Sequence[Example], block: int) -> Tensor | None:
            return None if bank is None else bank.at(block, block).vectors[[place[one.id] for one in chunk]]

        for start in range(0, len(examples), self.batch_size):
            chunk = examples[start : start + self.batch_size]
            asked = ask(self.vlm, [one.prompt for one in chunk], steerers)
            for first in range(0, len(settings), SIDE_BY_SIDE):
                group = settings[first : first + SIDE_BY_SIDE]
                runs = [asked.run(one.steerer, one.strength, own(chunk, one.steerer.writes)) for one in group]
                words = self.words.said(asked.logits(self.vlm, runs))
                for number in range(len(group)):
                    said[first + number] += words[number * len(chunk) : (number + 1) * len(chunk)]
            advance(len(chunk))
        return said

    def best(
        self, examples: Sequence[Example], settings: Sequence[Setting], bank: ContrastBank | None = None
    ) -> Setting:
        """The setting with most right answers; of equals the weakest."""
        said = self.answers(examples, settings, bank)
        hits = [sum(word == one.target for word, one in zip(own, examples, strict=True)) for own in said]
        return max(zip(hits, settings, strict=True), key=lambda pair: (pair[0], -abs(pair[1].strength)))[1]

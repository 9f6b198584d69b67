"""Contrasts of a task, captured once, and every method fitted from them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from interv import VLM
from methods import L2S, STEERERS, ContrastBank, NormRnd, PromptSteering, capture_contrasts
from methods.steerer import Fitted
from studies.controls import ConstantDirection
from studies.recipes import Recipe
from studies.results import Results
from studies.tasks.task import Example, Split, Task

STEERING: dict[str, type[Fitted]] = {method.__name__: method for method in (*STEERERS, ConstantDirection)}
SEEDED = ("NormRnd", "L2S")  # the methods whose fit draws random numbers


@dataclass(frozen=True, eq=False)
class Fits:
    """The methods fitted from training contrasts; a fit that was asked for before is not made again."""

    task: Task
    recipe: Recipe
    train: ContrastBank
    validation: ContrastBank
    made: dict[tuple[str, int, int, int], Fitted] = field(default_factory=dict)

    def at(self, name: str, reads: int, writes: int, seed: int) -> Fitted:
        """The method of this name at these layers."""
        key = (name, reads, writes, seed if name in SEEDED else 0)
        if key not in self.made:
            self.made[key] = replace(self._fit(name, reads, writes, seed), scope=self.recipe.scope)
        return self.made[key]

    def _fit(self, name: str, reads: int, writes: int, seed: int) -> Fitted:
        train = self.train.at(reads, writes)
        if self.recipe.equalise:
            train = train.equalised(self.recipe.equalise)
        if name == "L2S":
            return L2S.fit(train, **self.recipe.fit(self.validation.at(reads, writes)) | {"seed": seed})
        if name == "NormRnd":
            return NormRnd.fit(train, seed=seed)
        if name == "PromptSteering":
            return PromptSteering.fit(train, suffix=self.recipe.prompt_suffix or self.task.prompt_suffix)
        return STEERING[name].fit(train)


def contrasts(
    vlm: VLM,
    task: Task,
    split: Split,
    examples: Sequence[Example],
    recipe: Recipe,
    layers: Sequence[int],
    results: Results,
    batch_size: int,
) -> ContrastBank:
    """Contrasts of these examples, kept in the result folder so that a resumed run need not capture them again."""
    folder = Path(results.folder) / "contrasts" / split
    if (folder / "contrasts.json").exists():
        return ContrastBank.load(folder)
    wanted = {example.id for example in examples}
    pairs = [recipe.adapted(pair) for pair in task.pairs(split) if pair.id in wanted]
    bank = capture_contrasts(vlm, pairs, batch_size=batch_size, layers=layers, **recipe.capturing(pairs))
    for id_, reason in bank.skipped:
        results.skip(id_, reason)
    bank.save(folder)
    return bank

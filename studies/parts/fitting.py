"""Every method fitted from a task's contrasts, by its recipe."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from methods import L2S, STEERERS, ContrastBank, PromptSteering
from methods.steerer import Fitted
from studies.parts.controls import ConstantDirection
from studies.parts.needs import seeded
from studies.parts.together import fit_together
from studies.recipes import Recipe
from studies.tasks.task import Task

_ALL: tuple[type[Fitted], ...] = (*STEERERS, ConstantDirection)
STEERING = {method.__name__: method for method in _ALL}  # put a method of your own here to have it studied


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
        key = (name, reads, writes, seed)
        if key not in self.made:
            self.made[key] = replace(self._fit(name, reads, writes, seed), scope=self.recipe.scope)
        return self.made[key]

    def fill(self, layers: Iterable[tuple[int, int]], seed: int) -> None:
        """Train L2S at all these (reads, writes) side by side, where its recipe lets it."""
        missing = [(reads, writes) for reads, writes in layers if ("L2S", reads, writes, seed) not in self.made]
        if self.recipe.checkpoint == "best_validation" or not missing:
            return
        trains = [self.recipe.targets(self.train, reads, writes) for reads, writes in missing]
        fitted = fit_together(trains, [seed] * len(trains), **self.recipe.fit())
        for (reads, writes), steerer in zip(missing, fitted, strict=True):
            self.made["L2S", reads, writes, seed] = replace(steerer, scope=self.recipe.scope)

    def _fit(self, name: str, reads: int, writes: int, seed: int) -> Fitted:
        method = STEERING[name]
        if method is L2S:
            options = self.recipe.fit(self.recipe.targets(self.validation, reads, writes)) | {"seed": seed}
            return L2S.fit(self.recipe.targets(self.train, reads, writes), **options)
        train = self.train.at(reads, writes)
        if method is PromptSteering:
            return PromptSteering.fit(train, suffix=self.recipe.prompt_suffix or self.task.prompt_suffix)
        drawn = {"seed": seed} if seeded(method) else {}
        return method.fit(train, **drawn)

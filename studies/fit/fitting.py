"""Every method fitted from a task's contrasts, by its recipe."""

import json
import os
import shutil
from collections import ChainMap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import TypeVar, cast

from interv.places.scope import PROMPT_SCOPES
from methods import (
    ADHH,
    BASELINES,
    CAST,
    COMBINED,
    EXTENSIONS,
    ITI,
    L2S,
    PAI,
    STEERERS,
    ContrastBank,
    L2SGated,
    L2SLayers,
    PromptSteering,
    Together,
    load_steerer,
)
from methods.steerer import Fitted
from studies.fit.controls import ConstantDirection
from studies.fit.materials import Materials
from studies.fit.method_traits import in_replies_alone, seeded
from studies.fit.selection import neighbours
from studies.fit.side_by_side import fit_together
from studies.recipes import Recipe
from studies.tasks.task import Task

_ALL: tuple[type[Fitted], ...] = (*STEERERS, ConstantDirection)
F = TypeVar("F", bound=Fitted)
STEERING = {method.__name__: method for method in _ALL}  # put a method of your own here to have it studied
# The other systems too, which are studied where they are named.
METHODS = ChainMap(STEERING, {method.__name__: method for method in (*BASELINES, *EXTENSIONS, *COMBINED)})


SECONDS = "seconds.json"  # beside a kept method: how long its fit took, without the contrasts, which all share


@dataclass(frozen=True)
class Kept:
    """A folder of fitted methods, each in one of its own.

    The last bits of a fit depend on the machine and its threads, so a run that is resumed elsewhere must go on with the
    very networks that its rows were made with.
    """

    folder: Path

    def all(self, names: Sequence[str], fit: Callable[[list[int]], Sequence[F]]) -> list[F]:
        """The methods of these names. Those that are not there, by their places, are made by `fit` and kept."""
        missing = [place for place, name in enumerate(names) if not (self.folder / name).exists()]
        if missing:
            start = perf_counter()
            fitted = fit(missing)
            seconds = (perf_counter() - start) / len(missing)
            for place, steerer in zip(missing, fitted, strict=True):
                self._save(names[place], steerer, seconds)
        return [cast(F, load_steerer(self.folder / name, tuple(METHODS.values()))) for name in names]

    def _save(self, name: str, steerer: Fitted, seconds: float) -> None:
        partial = self.folder / f"{name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        steerer.save(partial)
        (partial / SECONDS).write_text(json.dumps(seconds))
        os.replace(partial, self.folder / name)


@dataclass(frozen=True, eq=False)
class Fits:
    """The methods fitted from training contrasts; a fit that was asked for before is not made again."""

    task: Task
    recipe: Recipe
    train: ContrastBank
    validation: ContrastBank
    kept: Kept
    materials: Materials
    made: dict[tuple[str, int, int, int], Fitted] = field(default_factory=dict)

    def at(self, name: str, reads: int, writes: int, seed: int) -> Fitted:
        """The method of this name at these layers."""
        key = (name, reads, writes, seed)
        if key not in self.made:
            (self.made[key],) = self.kept.all([kept_as(*key)], lambda _: [self._scoped(self._fit(*key))])
        return self.made[key]

    def fill(self, layers: Iterable[tuple[int, int]], seed: int) -> None:
        """Train L2S at all these (reads, writes) side by side, where its recipe lets it."""
        missing = [(reads, writes) for reads, writes in layers if ("L2S", reads, writes, seed) not in self.made]
        if self.recipe.checkpoint == "best_validation" or not missing:
            return
        keys = [("L2S", reads, writes, seed) for reads, writes in missing]

        def fit(places: list[int]) -> list[Fitted]:
            trains = [self.recipe.targets(self.train, *missing[place]) for place in places]
            return [self._scoped(one) for one in fit_together(trains, [seed] * len(trains), **self.recipe.fit())]

        self.made.update(zip(keys, self.kept.all([kept_as(*key) for key in keys], fit), strict=True))

    def _scoped(self, steerer: Fitted) -> Fitted:
        if self.recipe.scope in PROMPT_SCOPES and in_replies_alone(type(steerer)):
            return steerer
        return replace(steerer, scope=self.recipe.scope)

    def _fit(self, name: str, reads: int, writes: int, seed: int) -> Fitted:
        method = METHODS[name]
        if issubclass(method, PAI | ADHH):
            self.materials.check_images(name)
        if issubclass(method, Together):
            return method.of([self.at(part, reads, writes, seed) for part in method.made_of])
        if method is L2S:
            options = self.recipe.fit(self.recipe.targets(self.validation, reads, writes)) | {"seed": seed}
            return L2S.fit(self.recipe.targets(self.train, reads, writes), **options)
        if method is L2SGated:
            targets = self.recipe.targets(self.train, reads, writes)
            network = cast(L2S, self.at("L2S", reads, writes, seed))
            return L2SGated.fit(targets.silenced(ids=self.materials.answered_rightly()), network=network)
        if method is L2SLayers:
            blocks = neighbours(writes, self.materials.vlm.n_layers)
            first, *others = [self.recipe.targets(self.train, reads, block) for block in blocks]
            judged, *judges = [self.recipe.targets(self.validation, reads, block) for block in blocks]
            options = self.recipe.fit(judged) | {"seed": seed}
            more = judges if options["validation"] is not None else ()
            fitted = L2SLayers.fit(first, others=others, validation_others=more, **options)
            return replace(fitted, writes=writes)
        train = self.train.at(reads, writes)
        if method is PromptSteering:
            return PromptSteering.fit(train, suffix=self.recipe.prompt_suffix or self.task.prompt_suffix)
        drawn = {"seed": seed} if seeded(method) else {}
        if method is CAST:
            pooled = self.materials.reading("train", self.train, "text").at(reads, writes)
            judged = self.materials.reading("val", self.validation, "text").at(reads, writes)
            return CAST.fit(pooled, validation=judged)
        if method is ITI:
            heads = self.materials.heads("train", self.train)
            return ITI.fit(heads, validation=self.materials.heads("val", self.validation))
        if issubclass(method, ADHH):
            return method.fit(self.materials.attribution(), **drawn)
        if method is PAI:
            return PAI.fit(train, vlm=self.materials.vlm)
        return method.fit(train, **drawn)


def kept_as(name: str, reads: int, writes: int, seed: int) -> str:
    """The folder that a fit is kept in."""
    return f"{name}-reads-{reads}-writes-{writes}-seed-{seed}"

"""The ablations of L2S: one factor changed at a time against a task's default."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from more_itertools import map_reduce
from torch import Tensor

from interv import Op
from methods import L2S, Contrasts, Query
from methods.steerer import Fitted, Strength
from studies.fit.selection import neighbours
from studies.fit.setting import Setting
from studies.recipes.completions import EMBEDDED_GROUPS
from studies.recipes.recipe import Recipe

DEFAULT = "L2S"
FACTORS = (
    "hidden",
    "pairs",
    "loss",
    "init",
    "activation",
    "contexts",
    "rate",
    "pool",
    "scope",
    "reads",
    "context",
    "equalise",
    "layers",
)
# A loss without its cosine term gives vectors of the right length; one of the cosine alone gives them any length.
LOSSES = {
    "squares alone": {"l1_weight": 0.0, "cosine_weight": 0.0},
    "absolute alone": {"mse_weight": 0.0, "cosine_weight": 0.0},
    "cosine alone": {"mse_weight": 0.0, "l1_weight": 0.0, "cosine_weight": 1.0},
    "no cosine": {"cosine_weight": 0.0},
}
# What needs contrasts of its own: other tokens are read.
CAPTURED = ("pool", "context", "closed_answer")


@dataclass(frozen=True)
class Variant:
    """One change.

    Attributes:
        factor, level: what is changed, to what; both empty for the default.
        changes: of the recipe.
        pairs: how many training pairs; all by default.
        reads: the context's block, where it is not the default's.
        writes: the steered blocks, where they are not the default's; the strength is divided among several.
        rate: the learning rate in multiples of the default's.
        standardised: whether the network is trained on contexts of mean 0 and mean square 1, and these two are then
            put into its encoder, so that it reads contexts as they are.
    """

    factor: str = ""
    level: str = ""
    changes: Mapping[str, Any] = field(default_factory=dict)
    pairs: int | None = None
    reads: int | None = None
    writes: tuple[int, ...] = ()
    rate: float = 1.0
    standardised: bool = False

    @property
    def name(self) -> str | None:
        """As the rows have it in their column "variant": "hidden=16"; None for the default."""
        return f"{self.factor}={self.level}" if self.factor else None

    @property
    def captures(self) -> bool:
        return any(name in CAPTURED for name in self.changes)


def variants(recipe: Recipe, reads: int, writes: int, n_layers: int, pairs: int, dictionary: bool) -> list[Variant]:
    """The default, then every factor's other levels. `dictionary` adds the initialisation that takes minutes a fit."""
    made = [Variant()]
    made += [Variant("hidden", str(size), {"hidden": size}) for size in (4, 16, 50, 400) if size != recipe.hidden]
    made += [Variant("pairs", str(count), pairs=count) for count in (16, 64, 256) if count < pairs]
    made += [Variant("loss", name, changes) for name, changes in LOSSES.items()]
    inits = ("svd", "random", "dictionary") if dictionary else ("svd", "random")
    made += [Variant("init", init, {"init": init}) for init in inits if init != recipe.init]
    other = "relu" if recipe.activation == "tanh" else "tanh"
    made.append(Variant("activation", other, {"activation": other}))
    if recipe.init != "random":
        made.append(Variant("activation", f"{other}, random start", {"activation": other, "init": "random"}))
    made.append(Variant("contexts", "standardised", standardised=True))
    made.append(Variant("contexts", f"standardised, {other}", {"activation": other}, standardised=True))
    made += [Variant("rate", f"x{factor:g}", rate=factor) for factor in (0.1, 0.3, 3.0)]
    made += [Variant("pool", pool, {"pool": pool}) for pool in ("last", "mean") if pool != recipe.pool]
    made += [
        Variant("scope", scope, {"scope": scope}) for scope in ("response", "generated", "all") if scope != recipe.scope
    ]
    made += [Variant("reads", str(layer), reads=layer) for layer in sorted({0, n_layers // 2, n_layers - 1} - {reads})]
    contexts = ("generation_prompt", "closed_user_turn")
    made += [Variant("context", place, {"context": place}) for place in contexts if place != recipe.context]
    groups = () if recipe.equalise else (EMBEDDED_GROUPS if recipe.task == "shapes_safety" else (("yes",), ("no",)))
    made.append(Variant("equalise", "no" if recipe.equalise else "yes", {"equalise": groups}))
    near = tuple(neighbours(writes, n_layers))
    made.append(Variant("layers", "+".join(map(str, near)), writes=near))
    return made


@dataclass(frozen=True, eq=False)
class SeveralLayers(Fitted):
    """A method at several layers at once; the strength is divided evenly among them."""

    parts: tuple[Fitted, ...] = ()

    @classmethod
    def fit(cls, train: Contrasts) -> "SeveralLayers":
        raise ValueError("SeveralLayers is made of methods that are fitted already, one at each layer.")

    def ops(self, query: Query, strength: Strength = 1.0) -> tuple[Op, ...]:
        return tuple(op for part in self.parts for op in part.ops(query, strength / len(self.parts)))


@dataclass(frozen=True)
class Ablated(Setting):
    """A setting of L2S whose rows carry the variant's name."""

    variant: str | None = None
    writes: tuple[int, ...] = ()

    def columns(self) -> dict[str, Any]:
        steered = self.writes[0] if len(self.writes) == 1 else list(self.writes)
        own = {"method": DEFAULT, "variant": self.variant, "reads": self.steerer.reads, "writes": steered}
        return super().columns() | own


def at_several_layers(parts: Sequence[Fitted], scope: Any) -> Fitted:
    """One method of the parts, one a layer."""
    scoped = tuple(replace(part, scope=scope) for part in parts)
    if len(scoped) == 1:
        return scoped[0]
    return SeveralLayers(scoped[0].reads, scoped[0].writes, scoped[0].fingerprint, scoped, scope=scope)


def standardised_contexts(train: Contrasts) -> tuple[Contrasts, Tensor, float]:
    """The contrasts with contexts of mean 0 and mean square 1, and the mean and the size that were taken out."""
    mean = train.context.float().mean(dim=0)
    centred = train.context.float() - mean
    size = float(centred.square().mean().sqrt()) or 1.0
    return replace(train, context=centred / size), mean, size


def fold_in(network: L2S, mean: Tensor, size: float) -> L2S:
    """The network that reads contexts as they are, of one that reads (context - mean) / size."""
    weight = network.encoder_weight / size
    return replace(network, encoder_weight=weight, encoder_bias=network.encoder_bias - weight @ mean)


def drawn(train: Contrasts, count: int | None, seed: int) -> Contrasts:
    """So many of the training pairs at random, behaviours in their own proportions; other ones for each seed."""
    if count is None or count >= len(train):
        return train
    generator = np.random.default_rng(seed)
    piles = map_reduce(range(len(train)), lambda row: train.behavior[row])
    placed = [
        ((place + generator.random()) / len(pile), pile[number])
        for pile in piles.values()
        for place, number in enumerate(generator.permutation(len(pile)))
    ]
    return train.rows(sorted(row for _, row in sorted(placed)[:count]))

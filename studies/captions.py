"""Is a caption better steered at its single decisions than as a whole?

    python studies/captions.py

One vector for a whole caption must serve words that are right and words that are not. Here the vector is predicted anew
before each word, from the last token so far, by networks trained on the decisions in the model's own captions: which
object comes next, and whether another one comes at all. What is steered is the method's variant: "object", "going on",
or both. Layers and strength are chosen on validation, as in compare.py; test images are described once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from typing import Any

from interv.progress import track
from methods import L2S, ContrastBank, MeanSteering, capture_contrasts
from methods.steerer import Fitted
from studies.fit.method_traits import reads_context, seeded
from studies.fit.selection import Choice, Grid, curves, drawn, ranked, thinned, winners
from studies.measure import GROUP, Record, Row
from studies.recipes.recipe import Recipe
from studies.report.conclusion import conclude, table_of
from studies.report.validation import rows_of
from studies.run.answer import picture, row_of
from studies.run.arguments import Common, check_blocks, prepare
from studies.run.bench import Bench, opened
from studies.run.command_line import run_study
from studies.run.results import key
from studies.run.stepwise import GOING_ON, OBJECT, caption_by_steps, decision_pairs
from studies.tasks import Example, Split
from studies.tasks.shapes_captions import scenes

KINDS = {"object": (OBJECT,), "going on": (GOING_ON,), "both": (OBJECT, GOING_ON)}
FITTED: tuple[type[Fitted], ...] = (MeanSteering, L2S)
UNSTEERED: Row = dict.fromkeys(GROUP) | {"method": "NoSteering"}


@dataclass(frozen=True)
class Arguments(Common):
    """Steer captions of the embedded world decision by decision."""

    task: str = "shapes_captions"  # the one task that this study knows
    layers: tuple[int, ...] = ()  # blocks that are read and steered; the middle ones by default
    strength: tuple[float, ...] = (0.2, 0.3, 0.5, 0.7, 1.0)
    limit: int | None = 100  # at most so many examples of each subset, in every split
    screen: int = 12  # validation examples of each subset on which the settings are tried
    trained: int = 300  # training images whose captions are taken apart
    shown: int = 12  # test examples of each subset whose image and captions go into the report


@dataclass(frozen=True)
class Way:
    """One way of steering: a method at the decisions of some kinds."""

    method: type[Fitted]
    decisions: str
    layer: int
    strength: float

    def columns(self, seed: int) -> Row:
        named = {"method": self.method.__name__, "variant": self.decisions, "strength": self.strength}
        reads = self.layer if reads_context(self.method) else None
        return named | {"reads": reads, "writes": self.layer, "seed": seed}


def study(arguments: Arguments) -> list[Record]:
    """Run it, or what is left of it, and write its folder; gives the records of the table."""
    if arguments.task != "shapes_captions":
        raise ValueError(f"{arguments.task!r} has no scenes to take captions apart by; the task is shapes_captions.")
    if any(given is not None for given in (arguments.workers, arguments.ray, arguments.engine)):
        raise ValueError("Captions are made word by word in this process: leave --workers, --ray and --engine out.")
    vlm, task, recipe = prepare(arguments)
    check_blocks(vlm, arguments.layers)
    recipe = as_run(recipe)
    middle = vlm.n_layers // 2
    layers = arguments.layers or (middle - 1, middle, middle + 1)
    grid = Grid(tuple(layers), tuple(layers), arguments.strength)
    more = {name: getattr(arguments, name) for name in ("screen", "trained", "shown")}
    with opened(arguments, "captions", vlm, task, recipe, grid, [arguments.seed], **more) as bench:
        grids = (KINDS, layers, arguments.strength)
        ways = [Way(method, *chosen) for method in FITTED for chosen in product(*grids)]
        steerers = Steerers(bench, layers, arguments.trained)
        part = thinned(bench.examples("val"), arguments.screen)
        bench.account.fit(lambda size: answer(bench, "val", part, [None, *ways], steerers, size))
        screened = rows_of(bench.rows("val"), part)
        best = winners(ranked(screened, task))
        bench.results.write("choices.json", [vars(choice) for choice in best.values()])
        chosen = [way for way in ways if any(choice.matches(way.columns(arguments.seed)) for choice in best.values())]
        test = bench.examples("test")
        shown = frozenset(example.id for example in thinned(test, arguments.shown))
        bench.account.fit(lambda size: answer(bench, "test", test, [None, *chosen], steerers, size, shown))
        return report(bench, list(best.values()), curves(screened, task, best))


def as_run(recipe: Recipe) -> Recipe:
    """The recipe, with what this study does whatever it says: a decision is one word, and is taken greedily.

    Its contrast is read at that word, its context at the token before, which is the one that is steered.
    """
    return replace(
        recipe,
        pool="last",
        context="generation_prompt",
        closed_answer=False,
        equalise=(),
        scope="response",
        checkpoint="last",
        sampled=False,
    )


@dataclass(frozen=True, eq=False)
class Steerers:
    """The methods fitted to the decisions in the training captions, each when it is first asked for."""

    bench: Bench
    layers: Sequence[int]
    trained: int
    made: dict[tuple[type[Fitted], str, int], Fitted] = field(default_factory=dict)

    @cached_property
    def bank(self) -> ContrastBank:
        bench, examples = self.bench, scenes("train")[: self.trained]
        longest = bench.task.max_new_tokens
        pairs = bench.account.fit(
            lambda size: decision_pairs(bench.vlm, examples, batch_size=size, max_new_tokens=longest)
        )
        how = bench.recipe.capturing(pairs)
        return bench.account.fit_pairs(
            lambda size: capture_contrasts(bench.vlm, pairs, batch_size=size, layers=self.layers, **how)
        )

    def of(self, method: type[Fitted], kind: str, layer: int) -> Fitted:
        def fit(_: list[int]) -> list[Fitted]:
            train = self.bank.at(layer, layer)
            train = train.rows([row for row, behavior in enumerate(train.behavior) if behavior == kind])
            options = self.bench.recipe.fit() if method is L2S else {}
            options |= {"seed": self.bench.common.seed} if seeded(method) else {}
            return [method.fit(train, **options)]

        if (method, kind, layer) not in self.made:
            name = f"{method.__name__}-{kind}-layer-{layer}-seed-{self.bench.common.seed}"
            (self.made[method, kind, layer],) = self.bench.kept_fits.all([name], fit)
        return self.made[method, kind, layer]


def answer(
    bench: Bench,
    split: Split,
    examples: Sequence[Example],
    ways: Sequence["Way | None"],
    steerers: Steerers,
    size: int,
    pictured: frozenset[str] = frozenset(),
) -> None:
    """A row for every example in every way, but for those that are there; None is the unsteered model.

    Images of `pictured` ids are kept for the report.
    """
    task, seed = bench.task, bench.common.seed
    for way in track(ways, f"{split}: captions"):
        columns = UNSTEERED | {"seed": seed} if way is None else way.columns(seed)
        missing = [e for e in examples if key({"id": e.id, "split": split, **columns}) not in bench.results.done]
        for start in range(0, len(missing), size):
            chunk = missing[start : start + size]
            fitted = {} if way is None else {k: steerers.of(way.method, k, way.layer) for k in KINDS[way.decisions]}
            strength = 0.0 if way is None else way.strength
            texts = caption_by_steps(
                bench.vlm, [e.prompt for e in chunk], fitted, strength, max_new_tokens=task.max_new_tokens
            )
            images = [picture(e, bench.results) if e.id in pictured else "" for e in chunk]
            bench.results.append(
                row_of(task, split, e, columns, text, image)
                for e, text, image in zip(chunk, texts, images, strict=True)
            )


def report(bench: Bench, best: Sequence[Choice], measured: Sequence[Record]) -> list[Record]:
    """Table, curves and page of the test captions, in the settings that were chosen."""
    rows = [row for row in bench.rows("test") if any(choice.matches(row) for choice in best)]
    bench.results.write("curves.json", measured)
    leading: dict[str, Any] = {"metric": "chair_s", "lower_is_better": True}
    return conclude(
        bench,
        table_of(bench, rows, **leading),
        f"Captions steered decision by decision, {bench.vlm.name}",
        curves=measured,
        curve_metrics=drawn(bench.task),
        curve_note="validation, at the layer chosen for each method and its decisions",
        **leading,
    )


def main() -> None:
    run_study("captions", study, Arguments, __doc__)


if __name__ == "__main__":
    main()

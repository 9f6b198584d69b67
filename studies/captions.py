"""Is a caption better steered at its single decisions than as a whole?

    python studies/captions.py --limit 200

One vector for a whole caption must serve words that are right and words that are not. Here the vector is predicted anew
before each word, from the last token so far, by networks trained on the decisions in the model's own captions: which
object comes next, and whether another one comes at all. What is steered is named in the method: "object", "going
on", or both. Layers and strength are chosen on validation, as in compare.py; test images are described once.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import product

import rich
import tyro
from rich.progress import track

from methods import L2S, ContrastBank, MeanSteering, capture_contrasts
from methods.steerer import Fitted
from studies.metrics import Record, Row, table
from studies.parts.bench import Bench, Common, opened, prepare
from studies.parts.choosing import Grid, ranked, thinned, winners
from studies.parts.results import key, write_json
from studies.parts.stepwise import GOING_ON, OBJECT, caption_by_steps, decision_pairs
from studies.report import write_report
from studies.run import row_of
from studies.tasks import Example, Split
from studies.tasks.shapes_captions import scenes

KINDS = {"object": (OBJECT,), "going on": (GOING_ON,), "both": (OBJECT, GOING_ON)}
FITTED: tuple[type[Fitted], ...] = (MeanSteering, L2S)
UNSTEERED: Row = {"method": "NoSteering", "strength": None, "reads": None, "writes": None}


@dataclass(frozen=True)
class Arguments(Common):
    """Steer captions of the embedded world decision by decision."""

    task: str = "shapes_captions"  # the one task that this study knows
    layers: tuple[int, ...] = ()  # blocks that are read and steered; the middle ones by default
    strength: tuple[float, ...] = (0.2, 0.3, 0.5, 0.7, 1.0)
    screen: int = 30  # validation examples of each subset on which the settings are tried
    trained: int = 300  # training images whose captions are taken apart


@dataclass(frozen=True)
class Way:
    """One way of steering: a method at the decisions of some kinds."""

    method: type[Fitted]
    decisions: str
    layer: int
    strength: float

    @property
    def name(self) -> str:
        """As the rows have it: "L2S(going on)"."""
        return f"{self.method.__name__}({self.decisions})"

    def columns(self, seed: int) -> Row:
        reads = self.layer if self.method is L2S else None
        return {"method": self.name, "strength": self.strength, "reads": reads, "writes": self.layer, "seed": seed}


def study(arguments: Arguments) -> list[Record]:
    """Run it, or what is left of it, and write its folder; gives the records of the table."""
    if arguments.task != "shapes_captions":
        raise ValueError(f"{arguments.task!r} has no scenes to take captions apart by; the task is shapes_captions.")
    vlm, task, recipe = prepare(arguments)
    middle = vlm.n_layers // 2
    layers = arguments.layers or (middle - 1, middle, middle + 1)
    grid = Grid(tuple(layers), tuple(layers), arguments.strength)
    more = {name: getattr(arguments, name) for name in ("screen", "trained")}
    with opened(arguments, "captions", vlm, task, recipe, grid, [arguments.seed], **more) as bench:
        grids = (KINDS, layers, arguments.strength)
        ways = [Way(method, *chosen) for method in FITTED for chosen in product(*grids)]
        steerers = Steerers(bench, layers, arguments.trained)
        part = thinned(bench.examples("val"), arguments.screen)
        answer(bench, "val", part, [None, *ways], steerers)
        best = winners(ranked(bench.rows("val"), task))
        write_json(bench.results.folder / "choices.json", [asdict(choice) for choice in best.values()])
        chosen = [way for way in ways if best[way.name].strength == way.strength and best[way.name].writes == way.layer]
        answer(bench, "test", bench.examples("test"), [None, *chosen], steerers)
        return report(bench)


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
        size, longest = bench.account.batch_size, bench.task.max_new_tokens
        pairs = decision_pairs(bench.vlm, examples, batch_size=size, max_new_tokens=longest)
        return bench.account.fit(
            lambda size: capture_contrasts(bench.vlm, pairs, batch_size=max(1, size // 4), layers=self.layers)
        )

    def of(self, method: type[Fitted], kind: str, layer: int) -> Fitted:
        if (method, kind, layer) not in self.made:
            train = self.bank.at(layer, layer)
            train = train.rows([row for row, behavior in enumerate(train.behavior) if behavior == kind])
            seeded = {"seed": self.bench.common.seed} if method is L2S else {}
            self.made[method, kind, layer] = method.fit(train, **seeded)
        return self.made[method, kind, layer]


def answer(
    bench: Bench, split: Split, examples: Sequence[Example], ways: Sequence["Way | None"], steerers: Steerers
) -> None:
    """A row for every example in every way, but for those that are there; None is the unsteered model."""
    task, seed = bench.task, bench.common.seed
    for way in track(ways, f"{split}: captions", transient=True):
        columns = UNSTEERED | {"seed": seed} if way is None else way.columns(seed)
        missing = [e for e in examples if key({"id": e.id, "split": split, **columns}) not in bench.results.done]
        for start in range(0, len(missing), bench.account.batch_size):
            chunk = missing[start : start + bench.account.batch_size]
            fitted = {} if way is None else {k: steerers.of(way.method, k, way.layer) for k in KINDS[way.decisions]}
            strength = 0.0 if way is None else way.strength
            texts = caption_by_steps(
                bench.vlm, [e.prompt for e in chunk], fitted, strength, max_new_tokens=task.max_new_tokens
            )
            made = [row_of(task, split, e, columns, text) for e, text in zip(chunk, texts, strict=True)]
            bench.results.append(made)


def report(bench: Bench) -> list[Record]:
    """Table and page of the test captions."""
    folder = bench.results.folder
    records = table(bench.rows("test"), bench.task.metrics, skipped=len(bench.results.skipped))
    write_json(folder / "table.json", records)
    bench.note_cost()
    page = write_report(
        folder, f"Captions steered decision by decision, {bench.vlm.name}", metric="chair_s", lower_is_better=True
    )
    rich.print((folder / "table.md").read_text(encoding="utf-8"))
    rich.print(f"Table, figures and page are in {page}")
    return records


def main() -> None:
    try:
        study(tyro.cli(Arguments, description=__doc__))
    except (ValueError, RuntimeError) as error:
        sys.exit(f"captions: {error}")


if __name__ == "__main__":
    main()

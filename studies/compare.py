"""Which way of steering works best on a task? Every method, its layers and strength chosen on validation alone.

    python studies/compare.py --task shapes_pope --model tiny-llava

The rule is one and the same for every method: of all layers and strengths of the grid, take the one with the best
objective on validation whose share of well-formed replies is at least 90% of the unsteered model's. All of the grid is
screened on part of the validation examples, the best three settings of each method on all of them. Test examples are
answered once, in the settings so chosen.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path

import rich
import tyro

from interv import VLM
from studies.choosing import Choice, Grid, curves, finalists, ranked, thinned, winners
from studies.controls import LogitThreshold
from studies.fitting import SEEDED, STEERING, Fits, contrasts
from studies.metrics import Record, Row, table
from studies.picture import comparison_picture
from studies.recipes import RECIPES, Recipe
from studies.report import write_report
from studies.results import Results, key, read_rows, write_json
from studies.run import Setting, answer, readable, row_of
from studies.tasks import TASKS, Example, Split, Task

CONTROLS = ("LogitThreshold", "ConstantDirection")  # of yes/no tasks
METHODS = (*STEERING, "LogitThreshold")


@dataclass(frozen=True)
class Arguments:
    """Compare ways of steering on one task."""

    task: str = "shapes_pope"  # one of studies/tasks
    model: str = "tiny-llava"  # an embedded model, a local folder, or a hub id
    methods: tuple[str, ...] = METHODS  # which methods to compare
    recipe: str | None = None  # a named recipe of studies/recipes.py; the task's own by default
    strength: tuple[float, ...] = ()  # try these strengths alone
    out: Path | None = None  # the result folder; results/compare/<task>-<model> by default
    seed: int = 0  # the first seed of the methods that draw random numbers
    seeds: int = 3  # how many seeds on test
    limit: int | None = None  # at most so many examples of each subset, in every split
    screen: int = 40  # validation examples of each subset on which the whole grid is tried
    shown: int = 8  # test examples of each subset whose image and replies go into the report
    batch_size: int = 256  # replies decoded at once
    device: str = "cpu"


def compare(arguments: Arguments) -> list[Record]:
    """Run the study, or what is left of it, and write its folder; gives the records of the table.

    Raises ValueError for an unknown name, and for a folder that holds another recipe's results.
    """
    task = _known(arguments.task, TASKS, "task")()
    methods = [_known(name, {name: name for name in METHODS}, "method") for name in arguments.methods]
    yes_no = {example.target for example in task.prompts("val")} == {"yes", "no"}
    methods = [name for name in methods if yes_no or name not in CONTROLS]
    vlm = VLM.load(arguments.model, device=arguments.device)
    recipe = _recipe(arguments, task, vlm)
    grid = Grid.of(recipe, vlm.n_layers, arguments.strength)
    folder = arguments.out or Path("results/compare") / f"{task.name}-{Path(arguments.model).name}"
    seeds = list(range(arguments.seed, arguments.seed + arguments.seeds))
    settings = {"recipe": recipe.card(), "grid": asdict(grid), "methods": methods}
    settings |= {name: getattr(arguments, name) for name in ("model", "limit", "screen", "shown")}
    with Results.open(folder, settings, seeds=seeds, fingerprint=vlm.fingerprint) as results:
        study = _Study(vlm, task, recipe, grid, arguments, results)
        best = study.choose([name for name in methods if name != "LogitThreshold"])
        study.test(best, seeds)
        if "LogitThreshold" in methods:
            study.threshold()
        return study.report(best)


@dataclass(frozen=True, eq=False)
class _Study:
    vlm: VLM
    task: Task
    recipe: Recipe
    grid: Grid
    arguments: Arguments
    results: Results
    banks: dict = field(default_factory=dict)

    def examples(self, split: Split) -> list[Example]:
        return readable(thinned(self.task.prompts(split), self.arguments.limit), self.results)

    def bank(self, split: Split):
        if split not in self.banks:
            layers = sorted({*self.grid.writes, *self.grid.reads})
            where = (self.vlm, self.task, split, self.examples(split), self.recipe, layers, self.results)
            self.banks[split] = contrasts(*where, batch_size=max(1, self.arguments.batch_size // 4))
        return self.banks[split]

    def fits(self) -> Fits:
        if "fits" not in self.banks:
            self.banks["fits"] = Fits(self.task, self.recipe, self.bank("train"), self.bank("val"))
        return self.banks["fits"]

    def choose(self, methods: Sequence[str]) -> dict[str, Choice]:
        """Each method's setting: the whole grid on part of the validation examples, the finalists on all."""
        examples = self.examples("val")
        screen = thinned(examples, self.arguments.screen)
        seed = self.arguments.seed
        grid = [setting for name in methods for setting in self._candidates(name, seed)]
        self._answer("val", screen, grid)
        screened = {example.id for example in screen}
        first = ranked([row for row in self._rows("val") if row["id"] in screened], self.task)
        final = finalists(first)
        self._answer("val", examples, [self._setting(choice, seed) for choice in final])
        kept = [row for row in self._rows("val") if any(choice.matches(row) for choice in final)]
        best = winners(ranked(kept, self.task))
        write_json(self.results.folder / "choices.json", [asdict(choice) for choice in best.values()])
        return best

    def test(self, best: dict[str, Choice], seeds: Sequence[int]) -> None:
        """Answer the test examples in the chosen settings; every method that draws random numbers, seed by seed."""
        settings = [
            self._setting(choice, seed)
            for name, choice in best.items()
            for seed in (seeds if name in SEEDED else seeds[:1])
        ]
        for setting in settings:
            if setting.seed == seeds[0]:
                setting.steerer.save(self.results.folder / "steerers" / type(setting.steerer).__name__)
        self._answer("test", self.examples("test"), settings)

    def threshold(self) -> None:
        """The control that decides by the logits of yes and no, and lets the model go on from the word."""
        columns = {"method": "LogitThreshold", "strength": None, "reads": None, "writes": None}
        columns["seed"] = self.arguments.seed
        examples = self.examples("test")
        pending = [
            example
            for example in examples
            if key({"id": example.id, "split": "test", **columns}) not in self.results.done
        ]
        if not pending:
            return
        size, train = self.arguments.batch_size, self.examples("train")
        control = LogitThreshold.fit(self.vlm, [e.prompt for e in train], [e.target for e in train], batch_size=size)
        for start in range(0, len(pending), size):
            chunk = pending[start : start + size]
            words = control.answers(self.vlm, [example.prompt for example in chunk])
            forced = [replace(example.prompt, answer=word) for example, word in zip(chunk, words, strict=True)]
            replies = self.vlm.generate(forced, max_new_tokens=self.task.max_new_tokens)
            self.results.append(
                row_of(self.task, "test", example, columns, f"{word} {reply}".strip())
                for example, word, reply in zip(chunk, words, replies, strict=True)
            )

    def report(self, best: dict[str, Choice]) -> list[Record]:
        folder = self.results.folder
        records = table(self._rows("test"), self.task.metrics, skipped=len(self.results.skipped))
        write_json(folder / "table.json", records)
        measured = curves(self._rows("val"), self.task, best)
        write_json(folder / "curves.json", measured)
        names = [metric.name for metric in self.task.metrics]
        title = f"{self.task.name} on {self.vlm.name}"
        note = "validation, at the layers chosen for each method"
        page = write_report(
            folder, title, metric=self.task.objective, curves=measured, curve_metrics=names, curve_note=note
        )
        self._draw_example()
        rich.print((folder / "table.md").read_text())
        rich.print(f"Table, figures and page are in {page}.")
        return records

    def _draw_example(self) -> None:
        """The first test example on which L2S is right and the unsteered model is not, with every method's answer."""
        by_id: dict[str, list[Row]] = {}
        for row in self._rows("test"):
            by_id.setdefault(row["id"], []).append(row)
        for rows in by_id.values():
            right = {row["method"]: row["parsed"] == row["target"] for row in reversed(rows)}
            if rows[0]["image"] and right.get("L2S") and right.get("NoSteering") is False:
                figure = comparison_picture(rows, self.results.folder / rows[0]["image"])
                figure.savefig(self.results.folder / "figures" / "example.png", dpi=160)
                return

    def _candidates(self, name: str, seed: int) -> list[Setting]:
        """The grid of one method; those that add nothing have one setting, and only L2S reads a context."""
        if name in ("NoSteering", "PromptSteering"):
            return [Setting(self.fits().at(name, self.grid.reads[0], self.grid.writes[0], seed), seed=seed)]
        reads = self.grid.reads if name == "L2S" else self.grid.reads[:1]
        return [
            Setting(self.fits().at(name, read, write, seed), strength, seed)
            for read, write, strength in product(reads, self.grid.writes, self.grid.strengths)
        ]

    def _setting(self, choice: Choice, seed: int) -> Setting:
        reads = self.grid.reads[0] if choice.reads is None else choice.reads
        writes = self.grid.writes[0] if choice.writes is None else choice.writes
        seed = seed if choice.method in SEEDED else self.arguments.seed
        return Setting(self.fits().at(choice.method, reads, writes, seed), choice.strength or 0.0, seed)

    def _answer(self, split: Split, examples: Sequence[Example], settings: Sequence[Setting]) -> None:
        oracle = any(type(setting.steerer).__name__ == "P2S" for setting in settings)
        shown = thinned(examples, self.arguments.shown) if split == "test" else []
        answer(
            self.vlm,
            self.task,
            split,
            examples,
            settings,
            self.results,
            batch_size=self.arguments.batch_size,
            oracle=self.bank(split) if oracle else None,
            context_of=self.recipe.context_prompt,
            pictured=frozenset(example.id for example in shown),
        )

    def _rows(self, split: Split) -> list[Row]:
        return [row for row in read_rows(self.results.folder) if row["split"] == split]


def _known(name: str, known, what: str):
    if name not in known:
        raise ValueError(f"{name!r} is no {what}; there are {', '.join(known)}.")
    return known[name]


def _recipe(arguments: Arguments, task: Task, vlm: VLM) -> Recipe:
    """The recipe of this run. One that was made for another model or task keeps all that does not name a layer."""
    if arguments.recipe is None:
        own = [recipe for recipe in RECIPES.values() if recipe.task == task.name]
        return replace(own[0], model=arguments.model)
    recipe = _known(arguments.recipe, RECIPES, "recipe")
    if recipe.task == task.name:
        return replace(recipe, model=arguments.model)
    return recipe.embedded(task.name, arguments.model, vlm.d_model)


def main() -> None:
    try:
        compare(tyro.cli(Arguments, description=__doc__))
    except (ValueError, RuntimeError) as error:
        sys.exit(f"compare: {error}")


if __name__ == "__main__":
    main()

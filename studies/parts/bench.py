"""A model, a task and a result folder: what every study works with. Nothing is captured, fitted or answered twice."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from interv import VLM
from methods import ContrastBank, capture_contrasts
from studies.judges import LlamaGuard, judge_of
from studies.judges.panel import Panel
from studies.metrics import Row
from studies.parts.checkpoint import Checkpoint
from studies.parts.choosing import Choice, Grid, thinned
from studies.parts.cost import Account, BatchSize, note
from studies.parts.fitting import SEEDED, Fits
from studies.parts.results import Results, read_rows
from studies.parts.units import Setting
from studies.parts.workers import working
from studies.recipes import RECIPES, Recipe
from studies.run import Workers, answer, readable
from studies.tasks import BENCHMARKS, TASKS, Example, Split, Task


@dataclass(frozen=True)
class Common(Checkpoint):
    """The arguments that all studies share."""

    task: str = "shapes_pope"  # one of studies/tasks
    data: Path | None = None  # folder of a real benchmark; without one it comes from the hub
    recipe: str | None = None  # a named recipe of studies/recipes.py; the task's own by default
    guard: str | None = None  # Llama-Guard-3 (hub id or folder), for the unsafe score of mm_safety
    # Rate the replies of mm_safety, compare the captions of chair: models at the endpoint of JUDGE_URL, or hub ids or
    # folders. A second one tells how far judges agree.
    judge: tuple[str, ...] = ()
    strength: tuple[float, ...] = ()  # try these strengths alone
    out: Path | None = None  # the result folder; results/<study>/<task>-<model> by default
    seed: int = 0  # the first seed of the methods that draw random numbers
    limit: int | None = None  # at most so many examples of each subset, in every split
    batch_size: BatchSize = 256  # replies decoded at once; "auto" halves it for as long as memory runs out
    workers: int | None = None  # decode in so many processes, a GPU each where there are several
    ray: str | None = None  # address of a Ray cluster to decode on ("auto", "local"); --workers actors, or all it has

    def folder(self, study: str) -> Path:
        return self.out or Path("results") / study / f"{self.task}-{Path(self.model).name}"


@dataclass(frozen=True, eq=False)
class Bench:
    """Examples, contrasts, fits and replies of one study, each made when it is first asked for."""

    vlm: VLM
    task: Task
    recipe: Recipe
    grid: Grid
    common: Common
    results: Results
    workers: Workers | None = None  # other processes to decode in
    kept: str = "contrasts"  # the part of the result folder where contrasts lie; another one for another recipe's
    _made: dict[Any, Any] = field(default_factory=dict)

    @cached_property
    def account(self) -> Account:
        """Time, memory and batch size of this run."""
        return Account(self.common.batch_size, self.vlm.model.device)

    def note_cost(self) -> None:
        """Write down what this run has cost, at its end."""
        note(self.results.folder, self.account.entry(len(self.results.done) - self.results.earlier))

    def examples(self, split: Split) -> list[Example]:
        """The readable examples of a split, thinned to the limit; the others are noted in the results."""
        if ("examples", split) not in self._made:
            for flaw in getattr(self.task, "flaws", ()):
                self.results.skip(flaw.id, flaw.reason)
            chosen = thinned(self.task.prompts(split), self.common.limit)
            self._made["examples", split] = readable(chosen, self.results)
        return self._made["examples", split]

    def contrasts(self, split: Split) -> ContrastBank:
        """Contrasts of the split's examples at all layers of the grid, kept in the folder for a resumed run."""
        if ("contrasts", split) not in self._made:
            self._made["contrasts", split] = self._captured(split)
        return self._made["contrasts", split]

    @property
    def fits(self) -> Fits:
        if "fits" not in self._made:
            self._made["fits"] = Fits(self.task, self.recipe, self.contrasts("train"), self.contrasts("val"))
        return self._made["fits"]

    def fit(self, name: str, reads: int, writes: int, seed: int) -> Setting:
        """A method fitted at these layers, without a strength as yet."""
        seed = seed if name in SEEDED else self.common.seed
        return Setting(self.fits.at(name, reads, writes, seed), 0.0, seed)

    def setting(self, choice: Choice, seed: int) -> Setting:
        """A choice made runnable; layers that do not matter to its method are the grid's first."""
        reads = self.grid.reads[0] if choice.reads is None else choice.reads
        writes = self.grid.writes[0] if choice.writes is None else choice.writes
        return replace(self.fit(choice.method, reads, writes, seed), strength=choice.strength or 0.0)

    def answer(
        self, split: Split, examples: Sequence[Example], settings: Sequence[Setting], pictured: Sequence[Example] = ()
    ) -> None:
        """Write the rows of these examples in these settings that are not there yet."""
        oracle = any(type(setting.steerer).__name__ == "P2S" for setting in settings)
        bank = self.contrasts(split) if oracle else None
        self.account.fit(
            lambda size: answer(
                self.vlm,
                self.task,
                split,
                examples,
                settings,
                self.results,
                batch_size=size,
                oracle=bank,
                context_of=self.recipe.context_prompt,
                sampling={name: value for name, value in self.recipe.decoding().items() if name != "max_new_tokens"},
                pictured=frozenset(example.id for example in pictured),
                workers=self.workers,
            )
        )

    def rows(self, split: Split) -> list[Row]:
        """The split's rows as they were written, with the judges' marks where the task has judges."""
        rows = [row for row in read_rows(self.results.folder) if row["split"] == split]
        judged = getattr(self.task, "judged", None)
        return rows if judged is None else judged(rows, self.results.folder / "verdicts.jsonl")

    def _captured(self, split: Split) -> ContrastBank:
        folder = self.results.folder / self.kept / split
        if (folder / "contrasts.json").exists():
            return ContrastBank.load(folder)
        wanted = {example.id for example in self.examples(split)}
        pairs = [self.recipe.adapted(pair) for pair in self.task.pairs(split) if pair.id in wanted]
        files = all(isinstance(pair.prompt.image, str | Path) for pair in pairs)
        bank = self.account.fit(
            lambda size: capture_contrasts(
                self.vlm,
                pairs,
                batch_size=max(1, size // 4),
                layers=sorted({*self.grid.writes, *self.grid.reads}),
                order="image" if files else "given",
                **self.recipe.capturing(pairs),
            )
        )
        for id_, reason in bank.skipped:
            self.results.skip(id_, reason)
        bank.save(folder)
        return bank


def prepare(common: Common) -> tuple[VLM, Task, Recipe]:
    """The model, the task and the recipe of a study. Raises ValueError for names and data that do not exist."""
    known(common.task, {**TASKS, **BENCHMARKS}, "task")
    named = None if common.recipe is None else known(common.recipe, RECIPES, "recipe")
    vlm = common.load()
    recipe = recipe_of(common.task, common.model, vlm, named)
    if common.task in BENCHMARKS:
        guard = None if common.guard is None else LlamaGuard(common.guard, device=common.device)
        panel = Panel(guard, [judge_of(name, common.device) for name in common.judge])
        return vlm, BENCHMARKS[common.task](common.data, recipe, panel), recipe
    if common.data is not None:
        raise ValueError(f"{common.task} makes its own images; --data is for {', '.join(BENCHMARKS)}.")
    return vlm, TASKS[common.task](), recipe


def recipe_of(task: str, model: str, vlm: VLM, named: Recipe | None) -> Recipe:
    """The named recipe, or the task's for the model's family; one made for a deeper model leaves its layers open."""
    if named is not None and named.task != task:
        return named.embedded(task, model, vlm.d_model)
    own = [recipe for recipe in RECIPES.values() if recipe.task == task]
    family = vlm.model.config.model_type.split("_")[0]
    recipe = named or next((recipe for recipe in own if family in recipe.model.lower()), own[0])
    if max(recipe.reads or 0, recipe.writes or 0) >= vlm.n_layers:
        rate = recipe.learning_rate and recipe.learning_rate * 4096 / vlm.d_model
        recipe = replace(recipe, reads=None, writes=None, strength=None, learning_rate=rate)
    return replace(recipe, model=model)


@contextmanager
def opened(
    common: Common, study: str, vlm: VLM, task: Task, recipe: Recipe, grid: Grid, seeds: Sequence[int], **more: Any
) -> Iterator[Bench]:
    """The study's bench, with all that decides its rows as its folder's recipe; closes folder and workers."""
    settings = {"recipe": recipe.card(), "grid": asdict(grid), **common.deciding(vlm), "limit": common.limit, **more}
    settings |= {} if common.data is None else {"data": str(common.data)}
    with (
        Results.open(common.folder(study), settings, seeds=list(seeds), fingerprint=vlm.fingerprint) as results,
        working(common, vlm.fingerprint, common.workers, common.ray) as workers,
    ):
        yield Bench(vlm, task, recipe, grid, common, results, workers)


def known(name: str, among: Any, what: str) -> Any:
    """The value of this name. Raises ValueError with the names that there are."""
    if name not in among:
        raise ValueError(f"{name!r} is no {what}; there are {', '.join(among)}.")
    return among[name]

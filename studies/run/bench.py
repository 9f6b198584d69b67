"""A model, a task and a result folder: what every study works with. Nothing is captured, fitted or answered twice."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from interv import VLM
from interv.models.devices import device_of
from methods import ContrastBank, ContrastPair, Contrasts, capture_contrasts
from studies.fit.fitting import METHODS, Fits, Kept
from studies.fit.materials import Materials
from studies.fit.method_traits import adds, at_one_block, needs_vectors, reads_context, seeded
from studies.fit.selection import Choice, Grid, thinned
from studies.fit.setting import Setting
from studies.measure import Row, some
from studies.recipes import Recipe
from studies.run.answer import Workers, answer, readable
from studies.run.arguments import Common, sized
from studies.run.batch import first_size
from studies.run.cost import Account, note, noted
from studies.run.engine import decoding
from studies.run.material import data_hashes, deciding_judge, recorded_judges, recorded_notes
from studies.run.results import Results, read_rows
from studies.tasks import Example, Split, Task

CAPTURED = 32  # prompts of which states are read at once, all their tokens among them


@dataclass(frozen=True, eq=False)
class Bench:
    """Examples, contrasts, fits and replies of one study, each made when it is first asked for."""

    vlm: VLM
    task: Task
    recipe: Recipe
    grid: Grid
    common: Common
    results: Results
    account: Account  # time, memory and batch size of this run
    workers: Workers | None = None  # other processes to decode in
    kept: str = "contrasts"  # the part of the result folder where contrasts lie; another one for another recipe's
    _made: dict[Any, Any] = field(default_factory=dict)

    def note_cost(self) -> None:
        """Write down what this run has cost so far."""
        note(self.results.folder, self.account, len(self.results.done) - self.results.earlier)

    def examples(self, split: Split) -> list[Example]:
        """The readable examples of a split, thinned to the limit; the others are noted in the results."""
        if ("examples", split) not in self._made:
            for flaw in getattr(self.task, "flaws", ()):
                self.results.skip(flaw.id, flaw.reason)
            chosen = thinned(self.task.prompts(split), self.common.limit)
            self._made["examples", split] = readable(chosen, self.results, self.vlm)
        return self._made["examples", split]

    def contrasts(self, split: Split) -> ContrastBank:
        """Contrasts at the grid's layers and beside those that it steers, kept in the folder for a resumed run."""
        if ("contrasts", split) not in self._made:
            self._made["contrasts", split] = self._captured(split)
        return self._made["contrasts", split]

    def targets(self, split: Split, reads: int, writes: int) -> Contrasts:
        """The split's contrasts at these layers, with the vectors that the oracle adds and L2S learns to predict."""
        return self.recipe.targets(self.contrasts(split), reads, writes)

    def units(self, split: Split, contrasts: Contrasts) -> list[str]:
        """What each of the split's contrasts is drawn with in a bootstrap: its example's unit."""
        unit = {example.id: example.unit for example in self.examples(split)}
        return [unit[id_] for id_ in contrasts.id]

    @property
    def sampling(self) -> dict[str, Any]:
        """The options of `generate` for replies, but for their length, which the task knows."""
        return {name: value for name, value in self.recipe.decoding().items() if name != "max_new_tokens"}

    @property
    def fits(self) -> Fits:
        if "fits" not in self._made:
            train, validation = self.contrasts("train"), self.contrasts("val")
            size = min(CAPTURED, self.account.batch_size)
            made_of = Materials(self.vlm, self.task, self._pairs, self.examples, size, self.account.fit)
            self._made["fits"] = Fits(self.task, self.recipe, train, validation, self.kept_fits, made_of)
        return self._made["fits"]

    @property
    def kept_fits(self) -> Kept:
        """Where methods that were fitted from these contrasts are kept for a resumed run."""
        return Kept(self.results.folder / "fits" / self.kept)

    def fit(self, name: str, reads: int, writes: int, seed: int) -> Setting:
        """A method fitted at these layers, without a strength as yet."""
        seed = seed if seeded(METHODS[name]) else self.common.seed
        return Setting(self.fits.at(name, reads, writes, seed), 0.0, seed)

    def candidates(self, name: str) -> list[Setting]:
        """The grid of one method: one setting where it adds nothing, one context block where it reads none."""
        grid, seed, method = self.grid, self.common.seed, METHODS[name]
        if not adds(method):
            return [self.fit(name, grid.reads[0], grid.writes[0], seed)]
        reads = grid.reads if reads_context(method) else grid.reads[:1]
        writes = grid.writes if at_one_block(method) else grid.writes[:1]
        if name == "L2S":
            self.fits.fill(product(reads, writes), seed)
        return [
            replace(self.fit(name, read, write, seed), strength=strength)
            for read, write, strength in product(reads, writes, grid.strengths)
        ]

    def setting(self, choice: Choice, seed: int) -> Setting:
        """A choice made runnable; layers that do not matter to its method are the grid's first."""
        reads = self.grid.reads[0] if choice.reads is None else choice.reads
        writes = self.grid.writes[0] if choice.writes is None else choice.writes
        return replace(self.fit(choice.method, reads, writes, seed), strength=choice.strength or 0.0)

    def answer(
        self, split: Split, examples: Sequence[Example], settings: Sequence[Setting], pictured: Sequence[Example] = ()
    ) -> None:
        """Write the rows of these examples in these settings that are not there yet."""
        oracle = any(needs_vectors(type(setting.steerer)) for setting in settings)
        if oracle:
            self.contrasts(split)  # before anything is decoded, in batches of their own size
        self.account.fit(
            lambda size: answer(
                self.vlm,
                self.task,
                split,
                examples,
                settings,
                self.results,
                batch_size=size,
                oracle=partial(self.targets, split) if oracle else None,
                context_of=self.recipe.context_prompt,
                sampling=self.sampling,
                pictured=frozenset(example.id for example in pictured),
                workers=self.workers,
            )
        )

    def rows(self, split: Split) -> list[Row]:
        """The rows of the split's examples as they were written, with the judges' marks where the task has judges."""
        current = {example.id for example in self.examples(split)}
        rows = [row for row in read_rows(self.results.folder) if row["split"] == split and row["id"] in current]
        judged = getattr(self.task, "judged", None)
        return rows if judged is None else judged(rows, self.results.folder / "verdicts.jsonl")

    def _pairs(self, split: Split, bank: ContrastBank) -> list[ContrastPair]:
        """The pairs of the bank's rows, in their order."""
        pairs = {pair.id: pair for pair in self.task.pairs(split)}
        return [self.recipe.adapted(pairs[id_]) for id_ in bank.id]

    def _captured(self, split: Split) -> ContrastBank:
        folder = self.results.folder / self.kept / split
        wanted = {example.id for example in self.examples(split)}
        if folder.exists():
            bank = ContrastBank.load(folder)
            if differing := sorted(wanted ^ {*bank.id, *(id_ for id_, _ in bank.skipped)}):
                raise ValueError(
                    f"The contrasts in {folder} are of other examples; {len(differing)} differ ({some(differing)}). "
                    "The data has changed since, and methods fitted on it would too: give another result folder."
                )
            return bank
        pairs = [self.recipe.adapted(pair) for pair in self.task.pairs(split) if pair.id in wanted]
        files = all(isinstance(pair.prompt.image, str | Path) for pair in pairs)

        def capture(size: int) -> ContrastBank:
            # A folder for each size: what runs in one batch decides the last bits of its rows.
            return capture_contrasts(
                self.vlm,
                pairs,
                batch_size=size,
                layers=self.grid.captured(self.vlm.n_layers),
                order="image" if files else "given",
                out=folder.with_name(f"{split}-in-batches-of-{size}"),
                **self.recipe.capturing(pairs),
            ).loaded()

        bank = self.account.fit_pairs(capture)
        for id_, reason in bank.skipped:
            self.results.skip(id_, reason)
        whole = folder.with_name(f"{split}.partial")
        bank.save(whole)
        os.replace(whole, folder)
        for shards in folder.parent.glob(f"{split}-in-batches-of-*"):
            shutil.rmtree(shards)
        return bank


@contextmanager
def opened(
    common: Common, study: str, vlm: VLM, task: Task, recipe: Recipe, grid: Grid, seeds: Sequence[int], **more: Any
) -> Iterator[Bench]:
    """The study's bench, with all that decides its rows as its folder's recipe; closes folder and workers."""
    settings = {"recipe": recipe.card(), "grid": asdict(grid), **common.deciding(vlm), "limit": common.limit, **more}
    settings |= {} if common.data is None else {"data": str(common.data)}
    settings |= {} if common.engine is None else {"engine": "vllm"}  # whose rounding is another
    settings |= {"examples": data_hashes(task), **deciding_judge(task)}
    known: dict[str, Any] = {"seeds": list(seeds), "fingerprint": vlm.fingerprint, "preprocessing": vlm.preprocessing}
    known["recorded"] = recorded_judges(task) | recorded_notes(task)
    with (
        Results.open(common.folder(study), settings, **known) as results,
        decoding(
            vlm, sized(common, recipe), common.workers, common.ray, common.engine, common.engine_options
        ) as workers,
    ):
        account = Account(common.batch_size, device_of(vlm.model), noted(results.folder), first_size(common, vlm, task))
        bench = Bench(vlm, task, recipe, grid, common, results, account, workers)
        results.appended = bench.note_cost
        yield bench

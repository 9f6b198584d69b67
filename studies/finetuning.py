"""What does fine-tuning reach, at what price, and what does it forget?

    python studies/finetuning.py --task shapes_pope --model tiny-llava

The same training scenes as for steering, and the same rule: the learning rate with the best objective on validation
whose share of well-formed replies is at least 90% of the untuned model's. Test examples are answered once, with the
rate so chosen; those of another task tell what was forgotten. The model learns replies of its own, those that the
contrast pairs' wanted completions lead it to.
"""

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, get_args

from more_itertools import map_reduce

from interv import Prompt
from methods import NoSteering
from studies.fit.selection import Grid, first_of_each, ranked, thinned
from studies.fit.setting import Setting
from studies.fit.tuning import Kind, Trained, Tuning, tuned
from studies.fit.wanted import wanted_replies
from studies.measure import ALL, Record, Row, called, group, table
from studies.report.conclusion import conclude, table_of
from studies.report.naming import signed, words
from studies.report.tables import NOTHING, ExtraTable
from studies.report.validation import rows_of
from studies.run.answer import answer, readable
from studies.run.arguments import Common, known, prepare
from studies.run.bench import CAPTURED, Bench, opened
from studies.run.command_line import run_study
from studies.run.results import Results, read_rows
from studies.tasks import TASKS, Example, Task

# Validation decides between these; of all weights, a tenth of them. LLaVA: 2e-4 and 2e-5, at widths of thousands.
RATES = (3e-4, 1e-3, 3e-3)
PRICE, FORGOTTEN = "finetuning.json", "forgotten.json"  # beside the files that every study leaves


@dataclass(frozen=True)
class Arguments(Common):
    """Fine-tune the language model on a task's training scenes, and answer with it."""

    kinds: tuple[Kind, ...] = get_args(Kind)
    rates: tuple[float, ...] = RATES  # LoRA's learning rates; of full fine-tuning a tenth of each
    epochs: int = 3
    screen: int = 40  # validation examples of each subset that the rate is chosen on
    other: str = ""  # the task that shows what was forgotten; by default the other one of shapes_pope and shapes_safety
    shown: int = 8  # test examples of each subset whose image and replies go into the report


@dataclass(frozen=True)
class Tuned(Setting):
    """A model that was fine-tuned, and is not steered; its rows say how."""

    kind: Kind = "LoRA"
    rate: float = 0.0

    def columns(self) -> Row:
        return super().columns() | {"method": self.kind, "variant": f"rate {self.rate:g}"}


def finetuning(arguments: Arguments) -> list[Record]:
    """Run the study, or what is left of it, and write its folder; gives the records of the table.

    `finetuning.json` has the price of each kind, `forgotten.json` the table of the other task. Raises ValueError for a
    task or rate that is none, for workers, which have models of their own, and for a folder of another recipe.
    """
    if arguments.workers or arguments.ray or arguments.engine:
        raise ValueError(
            "Fine-tuning changes this process's model, and workers have their own; leave --workers, --ray and --engine "
            "out."
        )
    others = [name for name in ("shapes_pope", "shapes_safety") if name != arguments.task]
    other = known(arguments.other or others[0], TASKS, "task")()
    for rate in arguments.rates:
        if not 0 < rate < 1:
            raise ValueError(f"--rates has {rate:g}; a learning rate lies above 0 and below 1.")
    vlm, task, recipe = prepare(arguments)
    grid = Grid((0,), (0,), (1.0,))
    more = {name: getattr(arguments, name) for name in ("kinds", "rates", "epochs", "screen", "shown")}
    seeds = (arguments.seed,)
    with opened(arguments, "finetuning", vlm, task, recipe, grid, seeds, other=other.name, **more) as bench:
        plain, learnt = Setting(NoSteering(0, 0, "")), Learnt(bench)
        part = thinned(bench.examples("val"), arguments.screen)
        bench.answer("val", part, [plain])
        answer_tests(bench, other, plain)
        tried = [
            Tuned(plain.steerer, 0.0, arguments.seed, kind, rate if kind == "LoRA" else rate / 10)
            for kind, rate in product(arguments.kinds, arguments.rates)
        ]
        for setting in tried:
            if not answered(bench.rows("val"), setting, part):
                with learnt.by(setting):
                    bench.answer("val", part, [setting])
        chosen, prices = choose(bench, part, tried), read_prices(bench.results.folder)
        for setting in chosen:
            if setting.kind not in prices:
                with learnt.by(setting) as trained:
                    answer_tests(bench, other, setting)
                prices[setting.kind] = {"rate": setting.rate, "replies": len(learnt.replies), **trained.record()}
                bench.results.write(PRICE, prices)
        return report(bench, other, [plain, *chosen], prices)


@dataclass(frozen=True)
class Learnt:
    """What is learnt, made when a training first asks for it."""

    bench: Bench

    @cached_property
    def replies(self) -> list[tuple[Prompt, str]]:
        bench, examples = self.bench, self.bench.examples("train")
        pairs = {pair.id: pair for pair in bench.task.pairs("train")}
        own = [pairs[example.id] for example in examples]
        return wanted_replies(bench.vlm, bench.task, examples, own, min(CAPTURED, bench.account.batch_size))

    def by(self, setting: Tuned) -> AbstractContextManager[Trained]:
        """The bench's model, fine-tuned so."""
        epochs = self.bench.common.epochs  # type: ignore[attr-defined]
        tuning = Tuning(setting.kind, setting.rate, epochs=epochs, seed=setting.seed)
        return tuned(self.bench.vlm, self.replies, tuning)


def choose(bench: Bench, part: Sequence[Example], tried: Sequence[Tuned]) -> list[Tuned]:
    """Of each kind the rate that comes first by the rule for all methods."""
    by_name = {called(setting.columns()): setting for setting in tried}
    order = [choice.name for choice in ranked(rows_of(bench.rows("val"), part), bench.task)]
    settings = [by_name[name] for name in order if name in by_name]
    best = first_of_each(settings, lambda setting: setting.kind)
    bench.results.write("choices.json", [{"method": one.kind, "rate": one.rate} for one in best])
    return sorted(best, key=lambda setting: tried.index(setting))


def answered(rows: Sequence[Row], setting: Setting, examples: Sequence[Example]) -> bool:
    """Whether all of these examples have their row in this setting."""
    there = {row["id"] for row in rows if group(row) == group(setting.columns())}
    return there >= {example.id for example in examples}


def answer_tests(bench: Bench, other: Task, setting: Setting) -> None:
    """Test examples of the task, and those of the other one, whose rows lie in a folder inside."""
    examples = bench.examples("test")
    bench.answer("test", examples, [setting], pictured=thinned(examples, bench.common.shown))  # type: ignore[attr-defined]
    with others_of(bench, other) as results:
        asked = readable(thinned(other.prompts("test"), bench.common.limit), results, bench.vlm)
        bench.account.fit(lambda size: answer(bench.vlm, other, "test", asked, [setting], results, batch_size=size))


def others_of(bench: Bench, other: Task) -> Results:
    """Their rows' folder, which is the untrained model's as the bench's own is, whatever the model is just now."""
    recipe = json.loads((bench.results.folder / "recipe.json").read_text(encoding="utf-8"))
    return Results.open(bench.results.folder / "other", {"task": other.name}, fingerprint=recipe["fingerprint"])


def report(bench: Bench, other: Task, settings: Sequence[Setting], prices: dict[str, Any]) -> list[Record]:
    """Table and page from the rows, with what each kind cost and what it forgot."""
    groups = {group(setting.columns()) for setting in settings}
    rows = [row for row in bench.rows("test") if group(row) in groups]
    elsewhere = [row for row in read_rows(bench.results.folder / "other") if group(row) in groups]
    forgotten = table(elsewhere, other.metrics, "NoSteering")
    bench.results.write(FORGOTTEN, forgotten)
    tables = [price_table(prices), forgotten_table(forgotten, other)]
    title = f"What does fine-tuning reach? {bench.task.name} on {bench.vlm.name}"
    return conclude(bench, table_of(bench, rows), title, extra_tables=tables)


def price_table(prices: dict[str, Any]) -> ExtraTable:
    head = ["method", "learning rate", "numbers trained", "replies", "epochs", "seconds", "MB held beside the model"]
    body = [
        [
            kind,
            f"{price['rate']:g}",
            f"{price['parameters']:,} ({price['share']:.1%})",
            f"{price['replies']:,}",
            str(len(price["losses"])),
            f"{price['seconds']:.0f}",
            f"{price['held_bytes'] / 1e6:.1f}",
        ]
        for kind, price in prices.items()
    ]
    return "What it costs", head, body


def forgotten_table(records: Sequence[Record], other: Task) -> ExtraTable:
    """The other task's objective and share of well-formed replies, with the difference to the model as it was."""
    whole = [record for record in records if record["subset"] == ALL and record["metric"] in (other.objective, "valid")]
    by_name = map_reduce(whole, called)
    head = ["method", *(text for one in next(iter(by_name.values())) for text in (words(one["metric"]), "difference"))]
    body = [[name, *(text for one in own for text in _cells(one))] for name, own in by_name.items()]
    return f"What it forgets: {other.name}", head, body


def _cells(record: Record) -> tuple[str, str]:
    value = f"{record['value']:.3f} [{record['low']:.3f} to {record['high']:.3f}]"
    if record["method"] == record["baseline"]:
        return value, NOTHING[0]
    low, high = (signed(record[f"difference_{end}"]) for end in ("low", "high"))
    return value, f"{signed(record['difference'])} [{low} to {high}]"


def read_prices(folder: Path) -> dict[str, Any]:
    """What a run that ended early had written of its trainings."""
    return json.loads((folder / PRICE).read_text(encoding="utf-8")) if (folder / PRICE).exists() else {}


def main() -> None:
    run_study("finetuning", finetuning, Arguments, __doc__)


if __name__ == "__main__":
    main()

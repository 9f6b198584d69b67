"""From a file of examples to a steerer in a folder, with a card that says what it does and what it costs.

    fit(FitArguments(data="data.jsonl", out=Path("steerer"), model="tiny-llava"))

The images are split; contrasts are captured on the first part, layers and strength chosen on the second by the search
of `studies/calibrate`, and everything is judged on the third, which nothing else has seen. Before anything is fitted
the first two say what steering may gain. A run that was killed goes on where it stopped.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from interv import Prompt
from studies.calibrate.search import Found, Search, interleaved
from studies.calibrate.trials import Trials, unsteered
from studies.fit.method_traits import adds
from studies.fit.setting import Setting
from studies.measure import Row
from studies.own.arguments import BASELINES, FitArguments
from studies.own.card import card_of
from studies.own.foretold import Foretold, foretold
from studies.own.weighing import WEIGHED, Weighed, neutral_examples
from studies.run.arguments import sized
from studies.run.bench import Bench, opened
from studies.run.results import read_rows
from studies.tasks.examples_file import Data, OwnTask, read_data
from studies.tasks.task import Example, Split

QUESTIONS = ("Describe the image.", "What is in the image?")  # neutral ones, asked about held-out images
IMAGES = 24  # of each held-out part, about which these are asked


@dataclass(frozen=True)
class Chosen:
    """A method's setting, and how it was found; nothing was searched for a method that adds nothing."""

    setting: Setting
    candidates: int
    found: Found | None


def fit(arguments: FitArguments, *, forecast: Callable[[Bench], Foretold] | None = foretold) -> dict[str, Any]:
    """Fit, choose, judge, and write the folder; gives the card.

    `forecast` says of the bench, before anything is fitted, what steering may gain here; it stands in the card beside
    what came out. None leaves it out.
    Raises ValueError for arguments or data that cannot be used, and for a folder that another fit left.
    """
    arguments.check()
    data = read_data(arguments.data)
    neutral = None if arguments.neutral is None else read_data(arguments.neutral, answers=False)
    recipe = arguments.recipe()
    task = weighed_task(OwnTask(data, recipe))
    vlm = sized(arguments.common(), recipe).load()
    names = tuple(dict.fromkeys((*BASELINES, arguments.method)))
    more: dict[str, Any] = {"method": arguments.method, "budget": arguments.budget, "share": arguments.share}
    more |= {"data_hash": data.hash, "neutral_hash": neutral and neutral.hash}
    with opened(arguments.common(), "fit", vlm, task, recipe, arguments.grid(vlm), [arguments.seed], **more) as bench:
        held_out = {split: neutrals(bench, split, neutral) for split in ("val", "test")}
        expected = None if forecast is None else forecast(bench)
        chosen = {name: choose(bench, name, held_out["val"], arguments) for name in names}
        settings = [one.setting for one in chosen.values()]
        rows = judged(bench, settings, held_out["test"])
        card = card_of(bench, arguments, data, chosen, rows, expected)
        bench.note_cost()
        chosen[arguments.method].setting.steerer.save_pretrained(arguments.out, about=card)
    return card


def weighed_task(task: OwnTask) -> OwnTask:
    """The task itself where every row has a target; else the same measured by which answer is preferred."""
    if not task.has_targets:
        task.metrics, task.objective = WEIGHED, "preference"  # type: ignore[misc]
    return task


def trials_of(bench: Bench, kind: type[Trials], size: int) -> Any:
    """What a search asks of the bench's model: replies, or answers weighed."""
    plain = replace(unsteered(bench.candidates("NoSteering")), seed=bench.common.seed)
    own: dict[str, Any] = {"batch_size": size}
    if kind is Weighed:
        own["answers"] = {item.id: (item.positive, item.negative) for item in bench.task.data.items}  # type: ignore[attr-defined]
    return kind(bench.vlm, bench.task, bench.results, plain, **own)


def choose(bench: Bench, name: str, neutral: Sequence[Example], arguments: FitArguments) -> Chosen:
    """The method at the layers and the strength that the search finds best within the budget.

    Where none does better than the unsteered model, the first candidate at strength 0, which leaves it as it is.
    """
    candidates = bench.candidates(name)
    if not adds(type(candidates[0].steerer)):
        return Chosen(candidates[0], 1, None)
    targets = bench.task.has_targets  # type: ignore[attr-defined]
    examples = interleaved([*bench.examples("val"), *(() if targets else neutral)], arguments.seed)

    def search(size: int) -> Found:
        trials = trials_of(bench, Trials if targets else Weighed, size)
        bounds = arguments.budget, arguments.share, trials.tokens(examples)
        return Search(bench.task, candidates, examples, trials.reply, trials.diverge, *bounds).run()

    found = bench.account.fit(search)
    best = replace(candidates[0], strength=0.0) if found.index is None else candidates[found.index]
    return Chosen(best, len(candidates), found)


def judged(bench: Bench, settings: Sequence[Setting], neutral: Sequence[Example]) -> list[Row]:
    """The rows of the test examples and of the neutral prompts in the chosen settings."""
    examples = bench.examples("test")
    if bench.task.has_targets:  # type: ignore[attr-defined]
        bench.answer("test", examples, settings)
    weighed = neutral if bench.task.has_targets else [*examples, *neutral]  # type: ignore[attr-defined]
    bench.account.fit(lambda size: trials_of(bench, Weighed, size).make(settings, weighed, "test"))
    ids = {example.id for example in (*examples, *neutral)}
    wanted = [setting.columns() for setting in settings]
    rows = [row for row in read_rows(bench.results.folder) if row["split"] == "test" and row["id"] in ids]
    return [row for row in rows if any(all(row[name] == one[name] for name in one) for one in wanted)]


def neutrals(bench: Bench, split: Split, data: Data | None) -> list[Example]:
    """Prompts that steering should leave alone: of the file that was given, or about the split's images."""
    if data is not None:
        units = list(dict.fromkeys(item.unit for item in data.items))
        own = {*units[split == "test" :: 2]}
        return neutral_examples([(item.prompt, item.unit) for item in data.items if item.unit in own], split)
    by_unit = {example.unit: example for example in reversed(bench.examples(split)) if example.prompt.image is not None}
    shown = list(by_unit.values())[-IMAGES:]
    asked = [(Prompt(one.prompt.image, question), one.unit) for one in reversed(shown) for question in QUESTIONS]
    return neutral_examples(asked, split)

"""Can layer and strength be chosen for a fraction of a grid search's cost, and what is lost by it?

    python studies/calibration.py --task shapes_pope --model tiny-llava

`calibrate` is the search: the divergence of next-token distributions proposes, the quality of replies decides. This
study answers the whole grid on all validation examples, then chooses on one half of them and judges on the other, many
times over: once from the whole grid, and once as `calibrate` would, of which only the replies that it asks for count.
Replies are looked up, so that no halving costs anything. No test example is looked at, unless `--test` asks to judge
there, once and for all, what the search and the whole grid choose on all validation examples.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np

from interv import VLM, Prompt
from methods import ContrastBank
from methods.steerer import Fitted
from studies.calibrate.regret import SHARES, divergence_figure, grid_choice, halved, regret_figure, regrets
from studies.calibrate.search import Account, Diverge, Found, Search, interleaved, score
from studies.calibrate.summary import said, summary, summary_table
from studies.calibrate.trials import Trials, in_order, replayed, unsteered
from studies.fit.fitting import STEERING
from studies.fit.method_traits import needs_vectors
from studies.fit.selection import BUDGET, STRENGTHS, Choice, Grid, thinned
from studies.fit.setting import Setting
from studies.measure import GROUP, Record, Row
from studies.report.conclusion import table_of
from studies.report.figures.style import both
from studies.report.validation import about, finish, judged_rows
from studies.run.arguments import Common, check_blocks, known, prepare
from studies.run.bench import Bench, opened
from studies.run.command_line import run_study
from studies.run.results import Results, key
from studies.tasks.task import Example, Task


@dataclass(frozen=True)
class Calibration:
    """A method made ready: its layers are the steerer's own, and `strength` is the one to steer with.

    `strength` is 0 where no candidate that kept the budget did better than the unsteered model.
    """

    steerer: Fitted
    strength: float
    found: Found


def calibrate(
    vlm: VLM,
    steerer: Fitted | Sequence[Fitted],
    task: Task,
    budget: float = BUDGET,
    *,
    examples: Sequence[Example] | None = None,
    strengths: Sequence[float] = STRENGTHS,
    share: float = 0.2,
    oracle: ContrastBank | None = None,
    context_of: Callable[[Prompt], Prompt] = lambda prompt: prompt,
    results: Results | None = None,
    batch_size: int = 256,
    seed: int = 0,
) -> Calibration:
    """Choose strength, and layers if the method comes fitted at several, on validation examples.

    Of the candidates that keep at least `1 - budget` of the unsteered share of well-formed replies, the one with the
    task's best objective, found by asking for about `share` of the replies that all candidates on all examples take.

    Args:
        steerer: a fitted method, or one at each pair of layers that may be chosen.
        examples: of validation; all of the task's by default.
        oracle: contrasts of these examples, for P2S.
        context_of: the prompt that the context is read from, where it is not the one that is answered.
        results: where the replies go, so that a run that was killed resumes; nowhere by default.

    Raises ValueError where nothing is to be chosen from or on.
    """
    fitted = [steerer] if isinstance(steerer, Fitted) else list(steerer)
    chosen_on = interleaved(task.prompts("val") if examples is None else examples, seed)
    if not fitted or not strengths or len(chosen_on) < 2:
        raise ValueError(
            f"There are {len(fitted)} steerers, {len(strengths)} strengths and {len(chosen_on)} examples; "
            "calibrate needs at least one of the first two and two examples."
        )
    settings = [Setting(method, strength, seed) for method, strength in product(fitted, strengths)]
    own = None if oracle is None else oracle.at
    with tempfile.TemporaryDirectory() as folder:
        kept = results or Results.open(folder, {"task": task.name}, fingerprint=vlm.fingerprint)
        try:
            trials = Trials(vlm, task, kept, unsteered(settings), batch_size, own, context_of)
            tokens = trials.tokens(chosen_on)
            found = Search(task, settings, chosen_on, trials.reply, trials.diverge, budget, share, tokens).run()
        finally:
            if results is None:
                kept.close()
    if found.index is None:
        return Calibration(fitted[0], 0.0, found)
    return Calibration(settings[found.index].steerer, settings[found.index].strength, found)


@dataclass(frozen=True)
class Arguments(Common):
    """Calibrate layer and strength, and compare with the whole grid."""

    methods: tuple[str, ...] = ("L2S", "MeanSteering")  # which methods to calibrate
    writes: tuple[int, ...] = ()  # steered blocks to choose from; the four in the middle by default
    reads: tuple[int, ...] = ()  # context blocks to choose from; two of the upper part by default
    budget: float = BUDGET  # the share of well-formed replies that may be lost
    share: float = 0.2  # of the grid's cost that the search may take
    halvings: int = 10  # how often the examples are halved, each half being judged once
    test: bool = False  # judge what is chosen on all validation examples on the test examples too
    shown: int = 8  # examples of each subset whose image and replies go into the report


def calibration(arguments: Arguments) -> list[Record]:
    """Run the study, or what is left of it, and write its folder; gives the records of the table.

    `regret.json` has a record for each method, share of the cost and halving. Raises ValueError as `compare` does.
    """
    for name in arguments.methods:
        known(name, STEERING, "method")
    vlm, task, recipe = prepare(arguments)
    check_blocks(vlm, arguments.writes, arguments.reads)
    own, middle = Grid.of(recipe, vlm.n_layers, arguments.strength), vlm.n_layers // 2
    writes = arguments.writes or (tuple(range(max(0, middle - 2), middle + 2)) if recipe.writes is None else own.writes)
    grid = replace(own, writes=tuple(sorted(writes)), reads=tuple(sorted(arguments.reads or own.reads)))
    more = {name: getattr(arguments, name) for name in ("methods", "budget", "share", "halvings", "shown")}
    with opened(arguments, "calibration", vlm, task, recipe, grid, [arguments.seed], **more) as bench:
        settings = {name: bench.candidates(name) for name in arguments.methods}
        plain = bench.candidates("NoSteering")[0]
        examples = bench.examples("val")
        pictured = thinned(judged_half(examples), arguments.shown)
        bench.answer("val", examples, [plain, *(s for each in settings.values() for s in each)], pictured)
        looks = any(needs_vectors(STEERING[name]) for name in settings)
        oracle = partial(bench.targets, "val") if looks else None
        trials = Trials(vlm, task, bench.results, plain, bench.account.batch_size, oracle, recipe.context_prompt)
        divergence = {name: trials.diverge(each, examples) for name, each in settings.items()}
        tokens, reply = trials.tokens(examples), replayed(bench.rows("val"), plain)
        searches = {
            name: Search(task, each, examples, reply, looked_up(divergence[name], examples), arguments.budget)
            for name, each in settings.items()
        }
        searches = {n: replace(search, share=arguments.share, tokens=tokens) for n, search in searches.items()}
        shares = tuple(sorted({*SHARES, arguments.share}))
        records = [
            {"method": name} | record
            for name, search in searches.items()
            for record in regrets(search, shares, arguments.halvings)
        ]
        lines = summary(records)
        bench.results.write("regret.json", records)
        bench.results.write("summary.json", lines)
        if arguments.test:
            bench.results.write("test.json", on_test(bench, searches, plain))
        pictures = draw(bench, searches, divergence, lines)
        title = f"Layer and strength for less: {task.name} on {vlm.name}"
        answer = [said(line) for line in lines if line["share"] == arguments.share and line["pruned"]]
        rows = chosen_rows(bench, searches, arguments.shown)
        extra = [summary_table(lines)]
        return finish(bench, rows, table_of(bench, rows), title, pictures, answer=answer, extra_tables=extra)


def looked_up(divergence: np.ndarray, examples: Sequence[Example]) -> Diverge:
    """A `Diverge` for one method's settings, all of them at once, from what was measured on all examples."""
    place = {example.id: number for number, example in enumerate(examples)}
    return lambda settings, part: divergence[:, [place[example.id] for example in part]]


def judged_half(examples: Sequence[Example]) -> list[Example]:
    """The half of the examples that the table is measured on."""
    return halved(examples, 0)[1]


def chosen_rows(bench: Bench, searches: Mapping[str, Search], shown: int) -> list[Row]:
    """What each method's search chose on one half, on the other: the rows of the table."""
    half, rest = halved(bench.examples("val"), 0)[0], judged_half(bench.examples("val"))
    choices = [Choice("NoSteering", None, None, None, 0.0, 0.0)]
    for search in searches.values():
        found = replace(search, examples=half, account=Account()).run()
        if found.index is not None:
            columns = search.settings[found.index].columns()
            named = {name: columns[name] for name in GROUP}
            choices.append(Choice(**named, objective=found.effect, valid=found.quality))
    return judged_rows(bench, rest, choices, shown)


def on_test(bench: Bench, searches: Mapping[str, Search], plain: Setting) -> list[Record]:
    """What each search, and each whole grid, chooses on all validation examples, as it does on all test examples.

    Records {method, n, cost, effect, full, unsteered} as in `regrets`.
    """
    examples, records = bench.examples("test"), []
    for name, search in searches.items():
        fresh = replace(search, examples=interleaved(search.examples, bench.common.seed), account=Account())
        choice, whole = fresh.run(), len(search.settings) * len(search.examples)
        chosen = [plain if i is None else search.settings[i] for i in (choice.index, grid_choice(fresh), None)]
        for setting in chosen:
            bench.answer("test", examples, [setting])
        rows = {key(row): row for row in bench.rows("test")}
        effects = [score(bench.task, own)[0] for own in in_order(rows, chosen, examples, "test")]
        record = {"method": name, "n": len(examples), "cost": choice.cost / whole}
        records.append(record | dict(zip(("effect", "full", "unsteered"), effects, strict=True)))
    return records


def draw(
    bench: Bench, searches: Mapping[str, Search], divergence: Mapping[str, np.ndarray], lines: Sequence[Record]
) -> list[tuple[Path, str]]:
    """The two figures with what is to be said below each."""
    folder, note = bench.results.folder, about(bench, len(bench.examples("val")))
    return [
        (
            both(folder, "cost", lambda theme: regret_figure(lines, caption=note, theme=theme)),
            "Objective on one half of the examples, relative to what the whole grid chose on the other, over the "
            f"search's share of the grid's cost; bands hold 95% of {lines[0]['halves']} halves. Dashed: without the "
            f"divergence budget. Dotted: the goal. {note}.",
        ),
        (
            both(
                folder,
                "divergence",
                lambda theme: divergence_figure(searches, divergence, caption=note, theme=theme),
            ),
            "Share of well-formed replies and objective of every candidate, with 95% intervals, over the divergence of "
            f"its first token's distribution from the unsteered one, mean over examples. {note}.",
        ),
    ]


def main() -> None:
    run_study("calibration", calibration, Arguments, __doc__)


if __name__ == "__main__":
    main()

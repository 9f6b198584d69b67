"""Which way of steering works best on a task? Every method, its layers and strength chosen on validation alone.

    python studies/compare.py --task shapes_pope --model tiny-llava

The rule is one and the same for every method: of all layers and strengths of the grid, take the one with the best
objective on validation whose share of well-formed replies is at least 90% of the unsteered model's. All of the grid is
screened on part of the validation examples, the best three settings of each method on all of them. Test examples are
answered once, in the settings so chosen. What is built on L2S (gated, at several blocks, together with another system)
is tried at the layers that the screening chose for L2S, where that is compared too. A method that finds nothing to
learn from on the task says so in the table.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from more_itertools import map_reduce

from methods import DoesNotApply
from studies.fit.controls import YES_NO_CONTROLS, LogitThreshold, answer_words, is_yes_no
from studies.fit.fitting import METHODS, STEERING
from studies.fit.method_traits import built_on_l2s, seeded
from studies.fit.selection import Choice, Grid, curves, drawn, finalists, ranked, thinned, winners
from studies.fit.setting import Setting
from studies.measure import GROUP, Record, Row, refused_records
from studies.report.conclusion import conclude, table_of
from studies.report.figures.picture import comparison_picture
from studies.report.validation import rows_of
from studies.run.answer import row_of
from studies.run.arguments import Common, known, prepare
from studies.run.bench import Bench, opened
from studies.run.command_line import run_study
from studies.run.foretold import tell_plan
from studies.run.results import key, write_json
from studies.run.stages import Plan, Stage

THRESHOLD = "LogitThreshold"  # the one control that steers nothing
ALL = "all"


@dataclass(frozen=True)
class Arguments(Common):
    """Compare ways of steering on one task."""

    methods: tuple[str, ...] = (*STEERING, THRESHOLD)  # which methods to compare; "all": with the other systems
    seeds: int = 3  # how many seeds on test, of the methods that draw random numbers
    screen: int = 40  # validation examples of each subset on which the whole grid is tried
    shown: int = 24  # test examples of each subset whose image and replies go into the report
    dry_run: bool = False  # say what the run would take, by stage, without weights and without a result folder


def compare(arguments: Arguments) -> list[Record]:
    """Run the study, or what is left of it, and write its folder; gives the records of the table.

    Raises ValueError for an unknown name, and for a folder that holds another recipe's results.
    """
    named = methods_of(arguments)
    vlm, task, recipe = prepare(arguments)
    methods = [name for name in named if is_yes_no(task) or name not in YES_NO_CONTROLS]
    grid = Grid.of(recipe, vlm.n_layers, arguments.strength)
    seeds = range(arguments.seed, arguments.seed + arguments.seeds)
    more = {"methods": methods, "screen": arguments.screen, "shown": arguments.shown}
    with opened(arguments, "compare", vlm, task, recipe, grid, seeds, **more) as bench:
        best, refused = choose(bench, [name for name in methods if name != THRESHOLD], arguments.screen)
        if refused and not best and THRESHOLD not in methods:
            raise DoesNotApply(" ".join(refused.values()))
        settings = [
            bench.setting(choice, seed)
            for name, choice in best.items()
            for seed in (seeds if seeded(METHODS[name]) else seeds[:1])
        ]
        examples = bench.examples("test")
        bench.answer("test", examples, settings, pictured=thinned(examples, arguments.shown))
        if THRESHOLD in methods:
            bench.account.fit(lambda size: answer_by_threshold(bench, size))
        for setting in settings:
            if setting.seed == arguments.seed:
                setting.steerer.save(bench.results.folder / "steerers" / type(setting.steerer).__name__)
        return report(bench, best, arguments.screen, refused)


def counted(arguments: Arguments) -> list[Stage]:
    """What `compare` would do with these arguments, stage by stage; says it, and neither loads nor writes anything."""
    named = methods_of(arguments)
    vlm, task, recipe = prepare(arguments, outline=True)
    methods = [name for name in named if is_yes_no(task) or name not in YES_NO_CONTROLS]
    plan = Plan.of(arguments, vlm, task, recipe, Grid.of(recipe, vlm.n_layers, arguments.strength))
    steering = [name for name in methods if name != THRESHOLD]
    stages = plan.compared(task, steering, arguments.limit, arguments.screen, arguments.seeds, THRESHOLD in methods)
    tell_plan(plan, stages, vlm.name)
    return stages


def methods_of(arguments: Arguments) -> tuple[str, ...]:
    """The methods by name, "all" spelt out. Raises ValueError for a name that is none."""
    everything = (*STEERING, *(name for name in METHODS if name not in STEERING), THRESHOLD)
    named = everything if arguments.methods == (ALL,) else arguments.methods
    for name in named:
        known(name, dict.fromkeys(everything), "method")
    return named


def choose(bench: Bench, methods: Sequence[str], screen: int) -> tuple[dict[str, Choice], dict[str, str]]:
    """Each method's setting: the whole grid on part of the validation examples, the finalists on all of them.

    Beside them what a method says that does not apply, which has none.
    """
    examples, seed = bench.examples("val"), bench.common.seed
    part = thinned(examples, screen)
    later = [name for name in methods if "L2S" in methods and built_on_l2s(METHODS[name])]
    first = [name for name in methods if name not in later]
    settings, refused = applicable(bench, first)
    bench.answer("val", part, settings)
    if later:
        layers = winners(ranked(rows_of(bench.rows("val"), part), bench.task))["L2S"]
        there = replace(bench.grid, reads=(layers.reads or 0,), writes=(layers.writes or 0,))
        settings, more = applicable(replace(bench, grid=there), later)
        bench.answer("val", part, settings)
        refused |= more
    final = finalists(ranked(rows_of(bench.rows("val"), part), bench.task))
    bench.answer("val", examples, [bench.setting(choice, seed) for choice in final])
    kept = [row for row in bench.rows("val") if any(choice.matches(row) for choice in final)]
    best = winners(ranked(kept, bench.task))
    write_json(bench.results.folder / "choices.json", [asdict(choice) for choice in best.values()])
    return {name: best[name] for name in methods if name not in refused}, refused


def applicable(bench: Bench, methods: Sequence[str]) -> tuple[list[Setting], dict[str, str]]:
    """All settings of these methods, and what those say that do not apply."""
    settings: list[Setting] = []
    refused = {}
    for name in methods:
        try:
            settings += bench.candidates(name)
        except DoesNotApply as reason:
            refused[name] = str(reason)
    return settings, refused


def answer_by_threshold(bench: Bench, size: int) -> None:
    """The control that decides by the logits of yes and no, and lets the model go on from the word."""
    columns: Row = dict.fromkeys(GROUP) | {"method": THRESHOLD, "seed": bench.common.seed}
    pending = [
        example
        for example in bench.examples("test")
        if key({"id": example.id, "split": "test", **columns}) not in bench.results.done
    ]
    if not pending:
        return
    vlm, task, train = bench.vlm, bench.task, bench.examples("train")
    prompts, targets = [e.prompt for e in train], [e.target for e in train]
    control = LogitThreshold.fit(vlm, prompts, targets, words=answer_words(task), batch_size=size)
    for start in range(0, len(pending), size):
        chunk = pending[start : start + size]
        words = control.answers(vlm, [example.prompt for example in chunk])
        forced = [replace(example.prompt, answer=word) for example, word in zip(chunk, words, strict=True)]
        replies = vlm.generate(forced, max_new_tokens=task.max_new_tokens, **bench.sampling)
        bench.results.append(
            row_of(task, "test", example, columns, f"{word} {reply}".strip())
            for example, word, reply in zip(chunk, words, replies, strict=True)
        )


def report(bench: Bench, best: dict[str, Choice], screen: int, refused: dict[str, str]) -> list[Record]:
    """Table, curves, figures and page from the rows; methods that do not apply are the table's last lines.

    The curves are of the examples that the whole grid was tried on, since finalists alone have rows of the others.
    """
    task, chosen = bench.task, list(best.values())
    rows = [row for row in bench.rows("test") if row["method"] == THRESHOLD or any(one.matches(row) for one in chosen)]
    measured = curves(rows_of(bench.rows("val"), thinned(bench.examples("val"), screen)), task, best)
    bench.results.write("curves.json", measured)
    records = conclude(
        bench,
        table_of(bench, rows) + refused_records(refused, task.name, task.metrics, skipped=len(bench.results.skipped)),
        f"{task.name} on {bench.vlm.name}",
        curves=measured,
        curve_metrics=drawn(task),
        curve_note="validation examples of the screening, at the layers chosen for each method",
    )
    draw_example(bench, rows)
    return records


def draw_example(bench: Bench, rows: Sequence[Row]) -> None:
    """The first test example on which L2S is right and the unsteered model is not, with every method's answer."""
    by_id = map_reduce(rows, lambda row: row["id"])
    for example in bench.examples("test"):
        alike, images = by_id[example.id], example.prompt.images()
        right = {row["method"]: row["parsed"] == row["target"] for row in reversed(alike)}
        if images and right.get("L2S") and right.get("NoSteering") is False:
            comparison_picture(alike, images[0]).savefig(bench.results.folder / "figures" / "example.png", dpi=160)
            return


def main() -> None:
    run_study("compare", lambda typed: counted(typed) if typed.dry_run else compare(typed), Arguments, __doc__)


if __name__ == "__main__":
    main()

"""How much quality does effect cost? Every method over strength, and the trade-off between the two.

    python studies/strength_sweep.py --task shapes_pope --model tiny-llava

Each method's layers are chosen on the first validation examples of each subset, by the same rule for all; all strengths
at these layers are then measured on the other validation examples. No test example is looked at. The table shows each
method at the strength that the choice took, the curves show all of them. `front.json` lists the settings that no other
beats both in effect and in quality.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from studies.fit.controls import YES_NO_CONTROLS, is_yes_no
from studies.fit.fitting import STEERING
from studies.fit.selection import BUDGET, Choice, Grid, curves, drawn, floor, winners
from studies.measure import Record, called, group
from studies.report.conclusion import table_of
from studies.report.figures.style import both
from studies.report.figures.tradeoff import front, points, trade_off
from studies.report.findings import leaders
from studies.report.validation import about, apart, choose_on, finish, judged_rows
from studies.run.arguments import Common, known, prepare
from studies.run.bench import Bench, opened
from studies.run.command_line import run_study


@dataclass(frozen=True)
class Arguments(Common):
    """Sweep the strength of every method."""

    methods: tuple[str, ...] = tuple(STEERING)  # which methods; the unsteered model is always there
    screen: int = 20  # validation examples of each subset on which the layers are chosen
    shown: int = 8  # examples of each subset whose image and replies go into the report


def strength_sweep(arguments: Arguments) -> list[Record]:
    """Run the study, or what is left of it, and write its folder; gives the records of the table.

    Raises ValueError for an unknown method, and for a folder that holds another recipe's results.
    """
    for name in arguments.methods:
        known(name, STEERING, "method")
    vlm, task, recipe = prepare(arguments)
    grid = Grid.of(recipe, vlm.n_layers, arguments.strength)
    fitting = [name for name in arguments.methods if is_yes_no(task) or name not in YES_NO_CONTROLS]
    names = tuple(dict.fromkeys(("NoSteering", *fitting)))
    more = {"methods": names, "screen": arguments.screen, "shown": arguments.shown}
    with opened(arguments, "strength_sweep", vlm, task, recipe, grid, [arguments.seed], **more) as bench:
        part, rest = apart(bench.examples("val"), arguments.screen)
        best = winners(choose_on(bench, part, names))
        bench.results.write("choices.json", [vars(choice) for choice in best.values()])
        rows = judged_rows(
            bench, rest, [at for choice in best.values() for at in all_strengths(choice, grid)], arguments.shown
        )
        measured = curves(rows, task, best)
        among = points(measured, task.objective)
        bench.results.write("curves.json", measured)
        bench.results.write("front.json", front(among))
        kept = [row for row in rows if any(choice.matches(row) for choice in best.values())]
        title = f"How much quality does effect cost? {task.name} on {vlm.name}"
        records = table_of(bench, kept)
        return finish(
            bench,
            kept,
            records,
            title,
            [draw(bench, among, best, len(rest))],
            answer=said(leaders(records, task.objective)[:1], among, task.objective),
            curves=measured,
            curve_metrics=drawn(task),
            curve_note="validation, at the layers chosen for each method on other examples",
        )


def all_strengths(choice: Choice, grid: Grid) -> list[Choice]:
    """The choice at every strength of the grid; itself alone where its method has none."""
    if choice.strength is None:
        return [choice]
    return [replace(choice, strength=strength) for strength in grid.strengths]


def least_of(among: Sequence[Record]) -> float:
    """The least share of well-formed replies that keeps within the budget, on the judged examples."""
    return floor(
        [
            Choice(p["method"], None, None, None, p["effect"][0], p["quality"][0])
            for p in among
            if p["method"] == "NoSteering"
        ]
    )


def said(leading: Sequence[Record], among: Sequence[Record], objective: str) -> list[str]:
    """The leading method's best strength, and the one from which on its quality is below the budget."""
    sentences = []
    for leader in (one for one in leading if one["strength"] is not None):
        own = sorted((p for p in among if called(p) == called(leader)), key=lambda p: p["strength"])
        least = least_of(among)
        within = [p for p in own if p["quality"][0] >= least]
        top = max(within or own, key=lambda p: p["effect"][0])
        first = next((p for p in own if p["quality"][0] < least), None)
        share = f"{1 - BUDGET:.0%} of the unsteered share of well-formed replies"
        falls = f"no strength up to {own[-1]['strength']:g} brings its quality below {share}"
        if first is not None:
            falls = f"strength {first['strength']:g} brings its quality below {share} (to {first['quality'][0]:.0%})"
        sentences.append(
            f"{called(leader)} leads at strength {leader['strength']:g}, which was chosen on other examples. "
            f"{'Within the budget' if within else 'Over all strengths'} its {objective.replace('_', ' ')} is highest "
            f"at {top['strength']:g} ({top['effect'][0]:.3f}, n = {top['n']:,}), and {falls}."
        )
    return sentences


def draw(bench: Bench, among: list[Record], best: dict[str, Choice], n: int) -> tuple:
    """The trade-off's figure, with what is to be said below it."""
    least, note = least_of(among), about(bench, n)
    chosen = [group(vars(choice)) for choice in best.values()]
    objective = bench.task.objective
    file = both(
        bench.results.folder,
        "trade-off",
        lambda theme: trade_off(among, objective, "valid", least=least, chosen=chosen, caption=note, theme=theme),
    )
    text = (
        f"Effect over quality, with 95% intervals, at strengths from {min(bench.grid.strengths):g} to "
        f"{max(bench.grid.strengths):g}. Rings: the strength that each method's choice took. Wide squares: what "
        "no method beats on both; controls and the oracle are left out. Dotted: "
        f"{1 - BUDGET:.0%} of the unsteered quality."
    )
    return file, f"{text} {note}."


def main() -> None:
    run_study("strength_sweep", strength_sweep, Arguments, __doc__)


if __name__ == "__main__":
    main()

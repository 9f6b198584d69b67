"""Which layer steers best, and from which is the context read best?

    python studies/layer_sweep.py --task shapes_pope --model tiny-llava

L2S is tried at every pair of a steered block L* and a context block L', methods that read no context at every L*, all
by one rule: of the strengths that keep the share of well-formed replies within the budget, the one with the best
objective. Contrasts of all blocks are captured in one pass. The first validation examples of each subset make the maps
and choose each method's layers; the table is measured on the other validation examples, so that it does not profit from
the choice. No test example is looked at. How near the predicted vectors come to the oracle's is measured on the
contrasts of all validation examples, and needs no reply.

On a large model give the blocks to try: `--writes 0 5 10 15 20 25 30 --reads 10 20 30`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from more_itertools import map_reduce

from studies.fit.fitting import STEERING
from studies.fit.method_traits import adds, needs_vectors, reads_context
from studies.fit.selection import Choice, Grid, first_of_each, floor, winners
from studies.measure import GROUP, Metric, Record, Row, difference, estimate, group
from studies.measure.fidelity import agreement, averaged
from studies.report.conclusion import table_of
from studies.report.figures.heatmaps import heat_maps, over_layers
from studies.report.figures.style import both
from studies.report.validation import about, apart, choose_on, finish, judged_rows, rows_of
from studies.run.arguments import Common, check_blocks, known, prepare
from studies.run.bench import Bench, opened
from studies.run.command_line import run_study

STRENGTHS = (0.1, 0.3, 1.0, 2.0)  # few, since each is tried at each pair of layers; strength_sweep.py tries many


@dataclass(frozen=True)
class Arguments(Common):
    """Sweep the steered layer and the context's layer."""

    methods: tuple[str, ...] = ("MeanSteering", "L2S", "P2S")  # which methods; the unsteered model is always there
    writes: tuple[int, ...] = ()  # steered blocks L* to try; all by default
    reads: tuple[int, ...] = ()  # context blocks L' to try; all by default
    screen: int = 40  # validation examples of each subset that make the maps and choose
    shown: int = 8  # examples of each subset whose image and replies go into the report


def layer_sweep(arguments: Arguments) -> list[Record]:
    """Run the study, or what is left of it, and write its folder; gives the records of the table.

    `cells.json` holds every pair of layers at its best strength, `fidelity.json` the cosines and squared errors.
    Raises ValueError for an unknown method or block, and for a folder that holds another recipe's results.
    """
    for name in arguments.methods:
        known(name, STEERING, "method")
    vlm, task, recipe = prepare(arguments)
    blocks = range(vlm.n_layers)
    check_blocks(vlm, arguments.writes, arguments.reads)
    strengths = arguments.strength or ((recipe.strength,) if recipe.strength else STRENGTHS)
    grid = Grid(tuple(sorted(arguments.writes or blocks)), tuple(sorted(arguments.reads or blocks)), strengths)
    names = tuple(dict.fromkeys(("NoSteering", *arguments.methods)))
    more = {"methods": names, "screen": arguments.screen, "shown": arguments.shown}
    with opened(arguments, "layer_sweep", vlm, task, recipe, grid, [arguments.seed], **more) as bench:
        part, rest = apart(bench.examples("val"), arguments.screen)
        choices = choose_on(bench, part, names)
        screened, best = rows_of(bench.rows("val"), part), winners(choices)
        cells = measured(screened, per_layers(choices), floor(choices), task.metrics, task.objective)
        fidelity = compared(bench, names)
        bench.results.write("choices.json", [vars(choice) for choice in best.values()])
        bench.results.write("cells.json", cells)
        bench.results.write("fidelity.json", fidelity)
        rows = judged_rows(bench, rest, list(best.values()), arguments.shown)
        title = f"Which layer steers best? {task.name} on {vlm.name}"
        pictures = draw(bench, cells, fidelity, best, len(part))
        return finish(bench, rows, table_of(bench, rows), title, pictures, answer=said(cells, task.objective))


def per_layers(choices: Sequence[Choice]) -> list[Choice]:
    """The first, so the best, strength of each method at each of its pairs of layers."""
    return first_of_each(choices, lambda choice: (choice.method, choice.reads, choice.writes))


def measured(
    rows: Sequence[Row], cells: Sequence[Choice], least: float, metrics: Sequence[Metric], objective: str
) -> list[Record]:
    """Each cell with 95% intervals, whether it keeps the budget, is its method's best, or is within reach of that.

    Within reach: the paired 95% interval of its difference to the best cell of its method holds 0.
    """
    wanted = [metric for metric in metrics if metric.name in (objective, "valid")]
    by_setting = map_reduce(rows, group)
    own = {cell: by_setting[group(vars(cell))] for cell in cells}
    best = winners(cells)
    records = []
    for cell, these in own.items():
        named = {name: getattr(cell, name) for name in GROUP}
        paired = difference(these, own[best[cell.method]], [m for m in wanted if m.name == objective])[0]
        marks = {"kept": cell.valid >= least, "reach": paired["low"] <= 0 <= paired["high"]}
        marks["chosen"] = cell == best[cell.method]
        records += [named | record | marks for record in estimate(these, wanted) if record["subset"] == "all"]
    return records


def compared(bench: Bench, names: Sequence[str]) -> list[Record]:
    """Cosine and squared error of each method's vectors against the oracle's, at all layers, on validation contrasts.

    MeanSteering is always there, as the reference line of the paper's Fig. 12.
    """
    records = []
    for name in dict.fromkeys(("MeanSteering", *names)):
        method = STEERING[name]
        if not adds(method) or needs_vectors(method):
            continue
        reading = reads_context(method)
        for read, write in product(bench.grid.reads if reading else bench.grid.reads[:1], bench.grid.writes):
            setting, contrasts = bench.fit(name, read, write, bench.common.seed), bench.targets("val", read, write)
            named = {n: setting.columns()[n] for n in GROUP} | {"strength": 1.0, "subset": "all"}
            for metric, values in agreement(setting.steerer, contrasts).items():
                records.append(named | {"metric": metric} | averaged(values, bench.units("val", contrasts)))
    return records


def draw(
    bench: Bench, cells: Sequence[Record], fidelity: Sequence[Record], best: dict[str, Choice], screened: int
) -> list[tuple]:
    """The figures with what is to be said below each."""
    folder, objective = bench.results.folder, bench.task.objective
    of_objective = [record for record in cells if record["metric"] == objective]
    pairs = len(bench.contrasts("val"))
    note, note_contrasts = about(bench, screened), about(bench, pairs)
    figures = []
    for name in (name for name in best if reads_context(STEERING[name])):
        panels = [
            (f"{name}: {objective}", [record for record in of_objective if record["method"] == name]),
            (f"{name}: cosine to oracle", [r for r in fidelity if (r["method"], r["metric"]) == (name, "cosine")]),
        ]
        half = np.mean([(record["high"] - record["low"]) / 2 for record in panels[0][1]])
        caption = f"{note}; 95% intervals ±{half:.2f} on average; cosine: n = {pairs:,}"
        file = both(folder, f"layers-{name}", lambda theme, p=panels, c=caption: heat_maps(p, caption=c, theme=theme))
        text = (
            f"{name} at every pair of layers, each at the best of its strengths within the budget. Framed: the pair "
            "that the rule takes, of equals the one with the weaker strength. Bold: pairs whose paired 95% interval "
            "against it holds 0. Struck out: no strength keeps the budget. In the map of cosines the highest is framed."
        )
        figures.append((file, f"{text} {caption}."))
        steered = best[name].writes
        over_reads = [r for r in fidelity if r["writes"] == steered and r["method"] in (name, "MeanSteering")]
        axis, caption = f"context read at block L', steered at block {steered}", note_contrasts
        file = both(
            folder,
            f"context-{name}",
            lambda theme, r=over_reads, a=axis, c=caption: over_layers(
                r, "reads", ("cosine", "mse"), title=a, caption=c, theme=theme
            ),
        )
        figures.append((file, f"Predicted against oracle vectors over the context's layer. {caption}."))
    lines = along(of_objective, "writes")
    file = both(
        folder,
        "steered",
        lambda theme: over_layers(
            lines, "writes", (objective,), title="steered at block L*", caption=note, theme=theme
        ),
    )
    text = f"{objective.capitalize()} over the steered layer, at each layer's best strength and context within the"
    return [(file, f"{text} budget, with 95% bands. {note}."), *figures]


def said(cells: Sequence[Record], objective: str) -> list[str]:
    """Each method's layers as the rule takes them, and how many others cannot be told from them."""
    sentences = []
    of_objective = [cell for cell in cells if cell["metric"] == objective and cell["writes"] is not None]
    for chosen in (cell for cell in of_objective if cell["chosen"]):
        own = [cell for cell in of_objective if cell["method"] == chosen["method"]]
        alike = sum(cell["reach"] and cell["kept"] for cell in own if cell is not chosen)
        reading = chosen["reads"] is not None
        where = f"L* = {chosen['writes']}" + (f" with the context of L' = {chosen['reads']}" if reading else "")
        tried = f"{len(own)} {'pairs of layers' if reading else 'layers'} tried"
        sentences.append(
            f"{chosen['method']} is steered best at {where} ({objective.replace('_', ' ')} {chosen['value']:.3f}, "
            f"n = {chosen['n']:,}, which also chose it); of the {tried}, {alike} more within the budget "
            "cannot be told from it by the paired 95% interval."
        )
    return sentences


def along(cells: Sequence[Record], layer: str) -> list[Record]:
    """Each method's best cell at each value of one layer; cells that keep the budget come before others."""
    best_first = sorted(cells, key=lambda record: (not record["kept"], -record["value"]))
    return first_of_each(best_first, lambda record: (record["method"], record[layer]))


def main() -> None:
    run_study("layer_sweep", layer_sweep, Arguments, __doc__)


if __name__ == "__main__":
    main()

"""Which of L2S's choices matter? One factor at a time against a task's default, over several seeds.

    python studies/ablations.py --task shapes_pope --model tiny-llava

Layers and strength of the default are chosen on the first validation examples of each subset. Every variant is then
trained from the training pairs once for each seed, and measured in two ways: how near its predicted vectors come to the
oracle's on all validation contrasts, and the objective of its replies on other validation examples, at the default's
strength. No test example is looked at. A variant that changes what the oracle's vector is (pool, context, equalise,
layers) is compared with its own oracle; its cosine can be set beside the default's, its squared error cannot.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from more_itertools import map_reduce

from methods import L2S, ContrastBank
from studies.fit.selection import Choice, Grid, thinned, winners
from studies.fit.side_by_side import fit_together
from studies.fit.variants import (
    DEFAULT,
    FACTORS,
    Ablated,
    Variant,
    at_several_layers,
    drawn,
    fold_in,
    standardised_contexts,
    variants,
)
from studies.measure import ALL, Metric, Record, Row, estimate, group
from studies.measure.fidelity import agreement, averaged, dead
from studies.recipes.recipe import Recipe
from studies.report.conclusion import table_of
from studies.report.figures.bars import ablation_bars
from studies.report.figures.style import both
from studies.report.naming import signed, words
from studies.report.validation import about, apart, choose_on, finish, rows_of
from studies.run.arguments import Common, known, prepare
from studies.run.bench import Bench, opened
from studies.run.command_line import run_study

# What the figure's records have of the table's.
MEASURED = ("value", "low", "high", "n", "units", "seeds", "difference", "difference_low", "difference_high")


@dataclass(frozen=True)
class Arguments(Common):
    """Change one factor of L2S at a time."""

    seeds: int = 5  # how many training runs of each variant
    screen: int = 20  # validation examples of each subset on which the default's layers and strength are chosen
    judged: int = 40  # validation examples of each subset on which replies are measured
    factors: tuple[str, ...] = ()  # these factors alone
    dictionary: bool = False  # also the dictionary initialisation, which takes minutes a fit
    shown: int = 4  # examples of each subset whose image and replies go into the report


def ablations(arguments: Arguments) -> list[Record]:
    """Run the study, or what is left of it, and write its folder; gives the records of the table.

    `ablations.json` has a record for each variant and metric, with the difference to the default. Raises ValueError for
    an unknown factor, and for a folder that holds another recipe's results.
    """
    for name in arguments.factors:
        known(name, dict.fromkeys(FACTORS), "factor")
    vlm, task, recipe = prepare(arguments)
    grid = Grid.of(recipe, vlm.n_layers, arguments.strength)
    everything = Grid(tuple(range(vlm.n_layers)), tuple(range(vlm.n_layers)), grid.strengths)
    seeds = tuple(range(arguments.seed, arguments.seed + arguments.seeds))
    more = {name: getattr(arguments, name) for name in ("screen", "judged", "factors", "dictionary", "shown")}
    with opened(arguments, "ablations", vlm, task, recipe, everything, seeds, **more) as bench:
        part, rest = apart(bench.examples("val"), arguments.screen)
        # Captured at every block, before the choice looks at some of them.
        pairs, _ = (len(bench.contrasts(split)) for split in ("train", "val"))
        best = winners(choose_on(replace(bench, grid=grid), part, ("NoSteering", "MeanSteering", "L2S")))
        bench.results.write("choices.json", [vars(choice) for choice in best.values()])
        chosen, judged = best["L2S"], thinned(rest, arguments.judged)
        reads, writes = chosen.reads or 0, chosen.writes or 0
        made = variants(recipe, reads, writes, vlm.n_layers, pairs, arguments.dictionary)
        made = [v for v in made if not v.factor or not arguments.factors or v.factor in arguments.factors]
        references = [bench.setting(best[name], arguments.seed) for name in ("NoSteering", "MeanSteering")]
        bench.answer("val", judged, references, pictured=thinned(judged, arguments.shown))
        records = []
        for variant in made:
            records += measured(bench, variant, chosen, seeds, judged)
        rows = [row for row in rows_of(bench.rows("val"), judged) if answers(row, made, best)]
        lines = table_of(bench, rows, DEFAULT)
        compared = against_default(records, rows, lines, task.objective, task.metrics)
        bench.results.write("ablations.json", compared)
        note = about(bench, len(judged), len(seeds)) + f"; L' = {reads}, L* = {writes}, strength {chosen.strength:g}"
        file = both(
            bench.results.folder,
            "ablations",
            lambda theme: ablation_bars(compared, task.objective, caption=note, theme=theme),
        )
        text = (
            f"One factor at a time: {task.objective} on n = {len(judged)} examples, and cosine of predicted to oracle "
            f"vectors on n = {len(bench.contrasts('val'))}, with 95% intervals over examples and seeds and a dot a "
            "seed. The band is the default's interval. A loss of the cosine alone leaves the vectors' length open, and "
            f"so what a strength means. {note}."
        )
        title = f"Which of L2S's choices matter? {task.name} on {vlm.name}"
        answer = changed(compared, task.objective)
        return finish(bench, rows, lines, title, [(file, text)], answer=answer)


def measured(bench: Bench, variant: Variant, chosen: Choice, seeds: Sequence[int], judged: Sequence) -> list[Record]:
    """Fit the variant once a seed, answer the judged examples, and give its cosine and squared error.

    Of a ReLU network also the share of dead units, those that no training context switches on.
    """
    reads = chosen.reads if variant.reads is None else variant.reads
    layers = variant.writes or (chosen.writes,)
    recipe = replace(bench.recipe, **variant.changes)
    own = bench
    if variant.captures:
        only = Grid((chosen.writes or 0,), (chosen.reads or 0,), bench.grid.strengths)
        own = replace(bench, recipe=recipe, grid=only, kept=f"contrasts-{variant.factor}-{variant.level}", _made={})
    train, validation = own.contrasts("train"), own.contrasts("val")
    parts = [fitted(bench, recipe, variant, train, validation, reads or 0, layer or 0, seeds) for layer in layers]
    steerers = [at_several_layers([part[number] for part in parts], recipe.scope) for number in range(len(seeds))]
    steered = tuple(layer or 0 for layer in layers)
    settings = [
        Ablated(steerer, chosen.strength or 0.0, seed, variant.name, steered)
        for steerer, seed in zip(steerers, seeds, strict=True)
    ]
    own.answer("val", judged, settings, pictured=thinned(judged, bench.common.shown))  # type: ignore[attr-defined]
    records: list[Record] = []
    oracles = [recipe.targets(validation, reads or 0, layer or 0) for layer in layers]
    agreements = [agreement(steerer, oracle) for part, oracle in zip(parts, oracles, strict=True) for steerer in part]
    named = {"factor": variant.factor, "level": variant.level, "method": DEFAULT, "variant": variant.name}
    for metric in ("cosine", "mse"):
        values = np.stack([one[metric] for one in agreements])
        by_seed = [float(value) for value in values.mean(axis=1)]
        record = averaged(values, own.units("val", oracles[0]))
        records.append(named | {"metric": metric} | record | {"by_seed": by_seed, "seeds": len(seeds)})
    contexts = train.at(reads or 0, layers[0] or 0).context.float()
    idle = [dead(steerer, contexts) for part in parts for steerer in part if steerer.activation == "relu"]
    if idle:
        record = averaged(np.array(idle)[:, None]) | {"n": len(contexts), "units": len(contexts)}
        records.append(named | {"metric": "dead"} | record | {"by_seed": idle})
    return records


def fitted(
    bench: Bench,
    recipe: Recipe,
    variant: Variant,
    train: ContrastBank,
    validation: ContrastBank,
    reads: int,
    writes: int,
    seeds: Sequence[int],
) -> list[L2S]:
    """The variant's network at these layers, once a seed; kept in the result folder."""

    def fit(places: list[int]) -> list[L2S]:
        return trained(recipe, variant, train, validation, reads, writes, [seeds[place] for place in places])

    names = [f"{variant.name or 'default'}-reads-{reads}-writes-{writes}-seed-{seed}" for seed in seeds]
    return bench.kept_fits.all(names, fit)


def trained(
    recipe: Recipe,
    variant: Variant,
    train: ContrastBank,
    validation: ContrastBank,
    reads: int,
    writes: int,
    seeds: Sequence[int],
) -> list[L2S]:
    whole = recipe.targets(train, reads, writes)
    options = recipe.fit(recipe.targets(validation, reads, writes))
    rate = options["learning_rate"] or 0.4 / whole.context.shape[1]
    options |= {"learning_rate": rate * variant.rate}
    trains = [drawn(whole, variant.pairs, seed) for seed in seeds]
    if not variant.standardised:
        return fit_together(trains, seeds, **options)
    plain = [standardised_contexts(part) for part in trains]
    networks = fit_together([part for part, _, _ in plain], seeds, **options)
    return [fold_in(network, mean, size) for network, (_, mean, size) in zip(networks, plain, strict=True)]


def answers(row: Row, made: Sequence[Variant], best: dict[str, Choice]) -> bool:
    """Whether the row is of a variant or of a reference as it was chosen; others are of the choosing."""
    if (row["method"], row["variant"]) == (DEFAULT, None):
        return row["strength"] == best["L2S"].strength and (row["reads"], row["writes"]) == (
            best["L2S"].reads,
            best["L2S"].writes,
        )
    names = {variant.name for variant in made if variant.factor}
    return row["variant"] in names or any(best[name].matches(row) for name in ("NoSteering", "MeanSteering"))


def against_default(
    records: Sequence[Record], rows: Sequence[Row], lines: Sequence[Record], objective: str, metrics: Sequence[Metric]
) -> list[Record]:
    """The cheap records, and from the table's lines the objective and quality of each variant's replies, seed by seed.

    The table's differences are to the default.
    """
    whole = {(group(line), line["metric"]): line for line in lines if line["subset"] == ALL}
    wanted = [metric for metric in metrics if metric.name in (objective, "valid")]
    factor = {(r["method"], r["variant"]): {n: r[n] for n in ("factor", "level")} for r in records}
    decoded = []
    for (method, variant), own in map_reduce(rows, lambda row: (row["method"], row["variant"])).items():
        seeds = sorted({row["seed"] for row in own})
        named = {"method": method, "variant": variant}
        named |= factor.get((method, variant), {"factor": "reference", "level": method})
        for metric in wanted:
            each = [estimate([r for r in own if r["seed"] == seed], [metric], resamples=1)[0] for seed in seeds]
            record = {field: whole[group(own[0]), metric.name][field] for field in MEASURED}
            decoded.append(named | {"metric": metric.name} | record | {"by_seed": [one["value"] for one in each]})
    return [*records, *decoded]


def changed(compared: Sequence[Record], objective: str) -> list[str]:
    """Which changes lower or raise the objective beyond the paired interval; the best of many would win by chance."""
    made = [r for r in compared if r["metric"] == objective and r["factor"] not in ("", "reference")]
    parts = []
    for verb, some in (
        ("lower", [record for record in made if record["difference_high"] < 0]),
        ("raise", [record for record in made if record["difference_low"] > 0]),
    ):
        some.sort(key=lambda record: -abs(record["difference"]))
        named = ", ".join(f"{words(r['factor'])} {words(r['level'])} {signed(r['difference'])}" for r in some)
        parts.append(f"{len(some) or 'none'} {verb if len(some) > 1 else verb + 's'} it" + (f" ({named})" * bool(some)))
    first = f"Of {len(made)} single changes to L2S, judged by their paired 95% interval for {objective}, "
    return [
        f"{first}{' and '.join(parts)}.",
        f"Of {len(made)} such intervals about {len(made) / 20:.1f} miss by chance.",
    ]


def main() -> None:
    run_study("ablations", ablations, Arguments, __doc__)


if __name__ == "__main__":
    main()

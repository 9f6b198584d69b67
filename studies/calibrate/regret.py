"""What a cheap search loses against the whole grid: chosen on one half of the examples, judged on the other."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator, PercentFormatter

from studies.calibrate.search import Account, Search, interleaved
from studies.measure import ALL, Record, estimate
from studies.report.figures.style import LIGHT, Theme, captioned, plain
from studies.report.naming import COLORS, listed, words
from studies.tasks.task import Example

SHARES = (0.05, 0.1, 0.15, 0.2, 0.3)  # of the grid's cost
GOAL = {"effect": 0.95, "cost": 0.20}  # what a search should reach, and at which cost


def halved(examples: Sequence[Example], seed: int) -> tuple[list[Example], list[Example]]:
    """Two halves at random that hold the subsets and behaviours about equally, and no unit on both sides."""
    halves: tuple[list[Example], list[Example]] = ([], [])
    side: dict[str, int] = {}
    for example in interleaved(examples, seed):
        halves[side.setdefault(example.unit, len(side) % 2)].append(example)
    return halves


def regrets(search: Search, shares: Sequence[float], halvings: int) -> list[Record]:
    """Search and whole grid on each half of each halving, at each share of the cost, with and without the divergence.

    Records {halving, share, pruned, cost, effect, full, best, unsteered, kept, full_kept}: cost is what the search took
    as a share of the grid's, effect and full are the objective on the other half of what each chose, best is the most
    that any candidate within the budget has there, and kept tells whether the choice keeps the budget there.
    """
    records = []
    for halving in range(halvings):
        for half, rest in (halved(search.examples, halving), halved(search.examples, halving)[::-1]):
            here, there = (replace(search, examples=part, account=Account()) for part in (half, rest))
            full, best = grid_choice(here), grid_choice(there)
            whole = len(search.settings) * len(half)
            for share in shares:
                for pruned in (True, False):
                    found = replace(here, share=share, divergence=pruned, account=Account()).run()
                    scores = there.measure([None, found.index, full, best], len(rest))
                    least = (1 - search.budget) * scores[None][1]
                    records.append(
                        {"halving": halving, "share": share, "pruned": pruned, "cost": found.cost / whole}
                        | {"effect": scores[found.index][0], "full": scores[full][0], "best": scores[best][0]}
                        | {"unsteered": scores[None][0], "kept": scores[found.index][1] >= least}
                        | {"full_kept": scores[full][1] >= least, "tried": found.tried}
                    )
    return records


def grid_choice(search: Search) -> int | None:
    """The best candidate by all replies to all examples.

    None where it does not keep the budget or does no better than the unsteered model.
    """
    count = len(search.examples)
    index = search.best(range(len(search.settings)), count, 1)[0]
    scores = search.measure([None, index], count)
    within = scores[index][1] >= search.floor(count)
    return index if within and scores[index][0] > scores[None][0] else None


def regret_figure(lines: Sequence[Record], *, caption: str = "", theme: Theme = LIGHT) -> Figure:
    """Relative effect over cost, a line a method with 95% of the halves; dashed without the divergence budget."""
    figure = Figure(figsize=(7.0, 3.8), layout="constrained", facecolor=theme.paper)
    axis = figure.subplots()
    plain(axis, theme, rules="y")
    for method in dict.fromkeys(line["method"] for line in lines):
        color = COLORS.get(method, theme.ink)
        for pruned in (True, False):
            own = [line for line in lines if line["method"] == method and line["pruned"] == pruned]
            cost, value, low, high = (np.array([line[n] for line in own]) for n in ("cost", "value", "low", "high"))
            style = "-" if pruned else (0, (4, 2))
            name = method if pruned else f"{method}, replies alone"
            if pruned:
                axis.fill_between(cost, low, high, color=color, alpha=0.15, lw=0)
            axis.plot(cost, value, color=color, lw=1.7, ls=style, label=name)
            axis.plot(cost, value, "o", color=color, ms=3.5)
    axis.axhline(GOAL["effect"], color=theme.muted, lw=0.9, ls=(0, (2, 2)), zorder=0)
    axis.axvline(GOAL["cost"], color=theme.muted, lw=0.9, ls=(0, (2, 2)), zorder=0)
    axis.xaxis.set_major_locator(MultipleLocator(0.05))
    axis.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axis.set_xlabel("share of the grid's cost", fontsize=9, color=theme.ink)
    axis.set_ylabel("effect, relative to the grid's choice", fontsize=9, color=theme.ink)
    legend = axis.legend(loc="lower right", fontsize=8, framealpha=1, facecolor=theme.paper, labelcolor=theme.ink)
    legend.get_frame().set_linewidth(0)
    return captioned(figure, f"{caption}; bands: 95% of {lines[0]['halves']} halves", theme)


def divergence_figure(
    searches: Mapping[str, Search], divergence: Mapping[str, np.ndarray], *, caption: str = "", theme: Theme = LIGHT
) -> Figure:
    """Quality and objective of every candidate, with 95% intervals, over the mean divergence of its first token."""
    figure = Figure(figsize=(9.0, 3.6), layout="constrained", facecolor=theme.paper)
    task = next(iter(searches.values())).task
    axes = dict(zip(("valid", task.objective), figure.subplots(1, 2), strict=True))
    metrics = [metric for metric in task.metrics if metric.name in axes]
    for name, axis in axes.items():
        plain(axis, theme, rules="y")
        axis.set_xscale("log")
        axis.set_title(words(name), loc="left", fontsize=9.5, color=theme.ink, weight="bold")
        axis.set_xlabel("divergence of the first token, nats", fontsize=8.5, color=theme.muted)
    for method in (record["method"] for record in listed([_named(name) for name in searches])):
        search, color = searches[method], COLORS.get(method, theme.ink)
        levels = np.maximum(divergence[method].mean(axis=1), 1e-5)
        for level, rows in zip(levels, search.reply(search.settings, search.examples), strict=True):
            for record in (record for record in estimate(rows, metrics) if record["subset"] == ALL):
                axis = axes[record["metric"]]
                axis.plot([level, level], [record["low"], record["high"]], color=color, lw=0.9, alpha=0.45)
                axis.plot(level, record["value"], "o", ms=3.5, mew=0, alpha=0.8, color=color)
        axes["valid"].plot([], [], "o", ms=4, color=color, label=method)
    axes["valid"].legend(fontsize=8, frameon=False, labelcolor=theme.ink, loc="lower left")
    return captioned(figure, caption, theme)


def _named(method: str) -> Record:
    return {"method": method, "variant": None, "strength": None, "reads": None, "writes": None}

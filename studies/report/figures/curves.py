"""Metrics over strength: a line a method with its 95% band, and its name where the line ends."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from studies.measure import ALL, Record, called
from studies.report.figures.style import LIGHT, MARKERS, Theme, captioned, plain, readable
from studies.report.naming import COLORS, CONTROLS, listed, number, words

NAME_HEIGHT = 0.066  # of a name and the space around it, as a share of a panel's height


def strength_curves(
    records: Sequence[Record], metrics: Sequence[str], *, subset: str = ALL, caption: str = "", theme: Theme = LIGHT
) -> Figure:
    """A panel a metric: the metric over strength, a line a method with its 95% band and its name at the end.

    A method of one strength is a level dashed line. Strengths are on a logarithmic axis if they span a factor over 20.
    """
    columns = min(2, len(metrics))
    lines = -(-len(metrics) // columns)
    figure = Figure(figsize=(4.9 * columns, 3.1 * lines + 0.4), layout="constrained", facecolor=theme.paper)
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for axis, metric in zip(axes, metrics, strict=False):
        chosen = [record for record in records if record["metric"] == metric and record["subset"] == subset]
        plain(axis, theme, rules="y")
        axis.set_title(words(metric), loc="left", fontsize=9.5, color=theme.ink, weight="bold")
        axis.set_xlabel("strength, in multiples of the contrast vector", fontsize=8, color=theme.muted)
        _curves(axis, chosen, theme)
    for axis in axes[len(metrics) :]:
        axis.set_visible(False)
    return captioned(figure, caption, theme)


def _curves(axis: Axes, chosen: Sequence[Record], theme: Theme) -> None:
    strengths = sorted({number(record["strength"]) for record in chosen if record["strength"]})
    if strengths and strengths[-1] > 20 * strengths[0]:
        axis.set_xscale("symlog", linthresh=strengths[0])
    if len(strengths) <= 12:
        axis.set_xticks([0.0, *strengths], [f"{strength:g}" for strength in (0.0, *strengths)], minor=False)
        axis.set_xticks([], minor=True)
    ends: list[tuple[float, str, str]] = []
    for name in dict.fromkeys(map(called, listed(chosen))):
        points = sorted((r for r in chosen if called(r) == name), key=lambda record: number(record["strength"]))
        x, value, low, high = (
            np.array([number(record[field]) for record in points]) for field in ("strength", "value", "low", "high")
        )
        method = points[0]["method"]
        color = COLORS.get(method, theme.ink)
        if len(set(x)) == 1:
            axis.axhline(value[0], color=color, lw=1.2, ls=(0, (4, 2)))
        else:
            axis.fill_between(x, low, high, color=color, alpha=0.18, lw=0)
            # A control often lies on the method that it controls; both are seen where it is dashed.
            style: Any = (0, (2, 1.6)) if method in CONTROLS else "-"
            axis.plot(x, value, color=color, lw=1.8, ls=style, marker=MARKERS.get(method, "o"), ms=3.5)
        ends.append((value[-1], name, color))
    if strengths:
        axis.set_xlim(right=strengths[-1] * 1.04)  # names stand where the lines end
    _name_ends(axis, [end for end in ends if np.isfinite(end[0])], theme)


def _name_ends(axis: Axes, ends: Sequence[tuple[float, str, str]], theme: Theme) -> None:
    """Names right of the panel, each with a thin line from where its curve ends."""
    bottom, top = axis.get_ylim()
    axis.set_ylim(bottom, top)
    gap = (top - bottom) * NAME_HEIGHT
    named = sorted(ends, key=lambda end: end[0])
    heights = spread([value for value, _, _ in named], gap, bottom - 0.5 * gap, top + 0.5 * gap)
    for (value, name, color), height in zip(named, heights, strict=True):
        axis.annotate(
            name,
            (1, value),
            (1.06, height),
            xycoords=axis.get_yaxis_transform(),
            textcoords=axis.get_yaxis_transform(),
            va="center",
            fontsize=8,
            color=readable(color, theme),
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": color, "lw": 0.7, "relpos": (0, 0.5), "shrinkA": 1, "shrinkB": 1},
        )


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places at least `gap` apart within [low, high], as near to the wanted ones, which are sorted, as can be.

    Places that would overlap become a group around the mean of what they wanted. Where not all fit, the gap shrinks.
    """
    gap = min(gap, (high - low) / max(1, len(wanted) - 1))
    groups: list[tuple[float, int]] = []
    for index, value in enumerate(wanted):
        groups.append((value - index * gap, 1))
        while len(groups) > 1 and groups[-2][0] > groups[-1][0]:
            (one, count), (other, more) = groups.pop(-2), groups.pop()
            groups.append(((one * count + other * more) / (count + more), count + more))
    highest = high - (len(wanted) - 1) * gap
    starts = [min(max(start, low), highest) for start, count in groups for _ in range(count)]
    return [start + index * gap for index, start in enumerate(starts)]

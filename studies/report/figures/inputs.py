"""Figures of single inputs: how many steering repaired or broke, how near the vectors came, and where they lie."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from studies.measure import Record, called
from studies.report.figures.style import LIGHT, Theme, captioned, plain
from studies.report.naming import COLORS, listed, number, words

HELPED, HURT = "#009e73", "#d55e00"
BEHAVIORS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


def helped_and_hurt(records: Sequence[Record], *, caption: str = "", theme: Theme = LIGHT) -> Figure:
    """A panel a part of the data: to the right the share of inputs that steering repaired, to the left that it broke.

    Records as from `estimate`, with metrics "helped" and "hurt".
    """
    parts = list(dict.fromkeys(record["subset"] for record in records))
    methods = list(dict.fromkeys(map(called, listed(records))))
    size = (2.1 + 2.3 * len(parts), 0.8 + 0.3 * len(methods))
    figure = Figure(figsize=size, layout="constrained", facecolor=theme.paper)
    axes = figure.subplots(1, len(parts), sharey=True, sharex=True, squeeze=False).ravel()
    for axis, part in zip(axes, parts, strict=True):
        plain(axis, theme, rules="x")
        axis.set_title(words(part), loc="left", fontsize=9.5, color=theme.ink, weight="bold")
        for record in (record for record in records if record["subset"] == part):
            sign, color = (1, HELPED) if record["metric"] == "helped" else (-1, HURT)
            line, ends = methods.index(called(record)), [number(record[name]) for name in ("low", "high")]
            axis.barh(line, sign * number(record["value"]), height=0.55, color=color, alpha=0.75)
            axis.plot([sign * end for end in ends], [line, line], color=theme.ink, lw=1.2)
        axis.axvline(0, color=theme.ink, lw=0.8)
        axis.xaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
        axis.set_xlabel("broken | repaired", fontsize=8.5, color=theme.muted)
    axes[0].set_yticks(range(len(methods)), methods)
    axes[0].set_ylim(len(methods) - 0.4, -0.6)
    return captioned(figure, caption, theme, "lines are 95% intervals")


def cosines(records: Sequence[Record], *, caption: str = "", theme: Theme = LIGHT) -> Figure:
    """The mean cosine to the oracle with its 95% interval: a line a method, a mark a behaviour."""
    named = {record["method"] for record in records}
    methods = [*(name for name in COLORS if name in named), *sorted(named - {*COLORS})]
    parts = list(dict.fromkeys(record["subset"] for record in records))
    figure = Figure(figsize=(6.4, 1.0 + 0.42 * len(methods)), layout="constrained", facecolor=theme.paper)
    axis = figure.subplots()
    plain(axis, theme, rules="x")
    for record in records:
        place = parts.index(record["subset"])
        line = methods.index(record["method"]) + (place - (len(parts) - 1) / 2) * 0.6 / max(1, len(parts))
        color = theme.ink if record["subset"] == "all" else BEHAVIORS[(place - 1) % len(BEHAVIORS)]
        value, low, high = (number(record[name]) for name in ("value", "low", "high"))
        first = record["method"] == methods[0]
        axis.plot([low, high], [line, line], color=color, lw=1.8)
        axis.plot(value, line, "o", ms=5, color=color, label=words(record["subset"]) if first else None)
    axis.axvline(0, color=theme.muted, lw=0.8)
    axis.set_yticks(range(len(methods)), methods)
    axis.set_ylim(len(methods) - 0.4, -0.6)
    axis.set_xlabel("cosine to the input's own vector", fontsize=8.5, color=theme.muted)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False, labelcolor=theme.ink)
    return captioned(figure, caption, theme, "bars are 95% intervals")


def projection(
    panels: Sequence[tuple[str, np.ndarray]],
    behavior: Sequence[str],
    shares: tuple[float, float],
    marks: Sequence[tuple[str, np.ndarray]] = (),
    *,
    caption: str = "",
    theme: Theme = LIGHT,
) -> Figure:
    """A panel a set of points [pairs, 2] on one plane, coloured by behaviour; `marks` are named points in each.

    Both axes have one scale. Stars are methods, and a mark that is none is a cross, so that both are seen on one place.
    """
    places = np.concatenate([*(points for _, points in panels), *(place[None] for _, place in marks)])
    middle, halves = (places.max(axis=0) + places.min(axis=0)) / 2, _halves(places)
    size = (3.9 * len(panels) + 1.1, 1.2 + 2.9 * min(1.5, halves[1] / halves[0]))
    figure = Figure(figsize=size, layout="constrained", facecolor=theme.paper)
    axes = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False).ravel()
    for axis, (title, points) in zip(axes, panels, strict=True):
        plain(axis, theme, rules="x")
        axis.grid(False)
        axis.set_title(title, loc="left", fontsize=9.5, color=theme.ink, weight="bold")
        _points(axis, points, behavior)
        for name, place in marks:
            style: dict[str, Any] = {"color": theme.ink, "mew": 1.5, "marker": "x", "ms": 8}
            if name in COLORS:
                style = {"color": COLORS[name], "mec": theme.paper, "mew": 1.0, "marker": "*", "ms": 18}
            axis.plot(*place, ls="none", label=name, **style)
        axis.set_xlabel(f"first component, {_share(shares[0])} of the variance", fontsize=8.5, color=theme.muted)
        axis.set_aspect("equal", adjustable="box")
    axes[0].set_ylabel(f"second component,\n{_share(shares[1])}", fontsize=8.5, color=theme.muted)
    axes[0].set_xlim(middle[0] - halves[0], middle[0] + halves[0])
    axes[0].set_ylim(middle[1] - halves[1], middle[1] + halves[1])
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right upper", fontsize=8, frameon=False, labelcolor=theme.ink)
    return captioned(figure, caption, theme)


def _share(share: float) -> str:
    return f"{share:.0%}" if share >= 0.005 else "under 1%"


def _halves(places: np.ndarray) -> np.ndarray:
    """Half the width and half the height that hold the points; neither is a sliver of the other."""
    halves = 0.55 * (places.max(axis=0) - places.min(axis=0))
    return np.maximum(halves, 0.5 * halves.max() or 1.0)


def _points(axis: Axes, points: np.ndarray, behavior: Sequence[str]) -> None:
    for index, name in enumerate(sorted(set(behavior))):
        own = points[[own == name for own in behavior]]
        axis.plot(own[:, 0], own[:, 1], "o", ms=3, mew=0, alpha=0.55, color=BEHAVIORS[index % 6], label=words(name))

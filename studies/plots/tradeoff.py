"""Effect against quality: the points of a strength sweep, those that no other beats on both, and their figure."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from studies.metrics import ALL, GROUP, Record, group
from studies.plots.figures import (
    COLORS,
    CONTROLS,
    LIGHT,
    MARKERS,
    ORACLES,
    Theme,
    captioned,
    listed,
    number,
    plain,
    words,
)


def points(records: Sequence[Record], effect: str, quality: str = "valid") -> list[Record]:
    """One point a setting: the fields of `GROUP`, and effect and quality as [value, low, high]; n and seeds."""
    by_setting: dict[tuple, dict[str, Record]] = {}
    for record in records:
        if record["subset"] == ALL and record["metric"] in (effect, quality):
            by_setting.setdefault(group(record), {})[record["metric"]] = record
    return [
        dict(zip(GROUP, setting, strict=True))
        | {
            axis: [number(own[metric][field]) for field in ("value", "low", "high")]
            for axis, metric in (("effect", effect), ("quality", quality))
        }
        | {name: own[effect][name] for name in ("n", "seeds")}
        for setting, own in by_setting.items()
    ]


def front(among: Sequence[Record]) -> list[Record]:
    """The points that no other equals or beats on both axes and beats on one, from the best quality to the worst.

    Controls and the oracle are left out: they are no methods that one could use. Of equal points the weakest counts.
    """
    usable = [point for point in among if point["method"] not in CONTROLS + ORACLES]
    ordered = sorted(usable, key=lambda point: (-point["quality"][0], -point["effect"][0], point["strength"] or 0.0))
    kept: list[Record] = []
    for point in ordered:
        if not kept or point["effect"][0] > kept[-1]["effect"][0]:
            kept.append(point)
    return kept


def trade_off(
    among: Sequence[Record],
    effect: str,
    quality: str,
    *,
    least: float,
    chosen: Sequence[tuple[Any, ...]] = (),
    caption: str = "",
    theme: Theme = LIGHT,
) -> Figure:
    """Effect over quality, a line a method through its strengths, with 95% intervals on both axes.

    The step line with squares is the front, the dotted rule the least quality within the budget, and rings are the
    `chosen` settings (as `metrics.group` gives them).
    """
    figure = Figure(figsize=(7.4, 4.6), layout="constrained", facecolor=theme.paper)
    axis = figure.subplots()
    plain(axis, theme, rules="y")
    for name in dict.fromkeys(point["method"] for point in listed(among)):
        own = sorted((p for p in among if p["method"] == name), key=lambda point: point["strength"] or 0.0)
        x, y = (np.array([point[side] for point in own]) for side in ("quality", "effect"))
        color = COLORS.get(name, theme.ink)
        bars = [np.abs(values[:, 1:] - values[:, :1]).T for values in (x, y)]
        axis.errorbar(x[:, 0], y[:, 0], xerr=bars[0], yerr=bars[1], fmt="none", ecolor=color, alpha=0.35, lw=0.9)
        hollow = name in CONTROLS + ORACLES
        style: dict[str, Any] = {"mfc": theme.paper if hollow else color, "mec": color, "color": color}
        style["ls"] = (0, (2, 1.6)) if name in CONTROLS else "-"  # it may lie on the method that it controls
        axis.plot(x[:, 0], y[:, 0], marker=MARKERS.get(name, "o"), ms=4, lw=1.3, alpha=0.95, label=name, **style)
        for point in own:
            if group(point) in chosen:
                axis.plot(point["quality"][0], point["effect"][0], "o", ms=10, mfc="none", mec=color, mew=1.4)
    best = front(among)
    steps = np.array([[point["quality"][0], point["effect"][0]] for point in best])
    if len(steps):
        wide: dict[str, Any] = {"color": theme.ink, "alpha": 0.18, "zorder": 0, "lw": 3.5, "ms": 13, "mew": 0}
        axis.step(steps[:, 0], steps[:, 1], "s-", where="post", label="front", **wide)
    axis.axvline(least, color=theme.muted, lw=0.9, ls=(0, (2, 2)), zorder=0)
    axis.set_xlabel(f"quality: {words(quality)}", fontsize=9, color=theme.ink)
    axis.set_ylabel(f"effect: {words(effect)}", fontsize=9, color=theme.ink)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False, labelcolor=theme.ink)
    return captioned(figure, caption, theme)

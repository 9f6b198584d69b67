"""The figure of a table, points with 95% intervals, and what all figures share: themes, captions, files.

Each function gives a matplotlib Figure made without pyplot, so nothing is shown, shared or left open. `save` writes it.
"""

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from studies.measure import Record, group
from studies.report.naming import COLORS, CONTROLS, ORACLES, label, listed, number, subsets, words

MARKERS = {"NoSteering": "|", "P2S": "D", "LogitThreshold": "s", "ConstantDirection": "s", "ThresholdInImage": "s"}
DPI = 200
CONTRAST = 4.5
CAPTION_LETTERS = 17  # of a caption that fit into an inch


@dataclass(frozen=True)
class Theme:
    """Colours of a page: text, secondary text, rules, background ("none" is transparent)."""

    ink: str
    muted: str
    rule: str
    paper: str


LIGHT = Theme(ink="#17191c", muted="#5d646c", rule="#dfe2e5", paper="#ffffff")
DARK = Theme(ink="#e9ebee", muted="#9aa1a9", rule="#343a41", paper="#14171a")


def readable(color: str, theme: Theme) -> str:
    """The colour, mixed with the theme's ink until text in it stands out from the paper, 4.5 to 1 (WCAG 2.2, 1.4.3)."""
    for share in np.linspace(0, 1, 21):
        mixed = (1 - share) * np.array(to_rgb(color)) + share * np.array(to_rgb(theme.ink))
        light, dark = sorted((_luminance(mixed), _luminance(np.array(to_rgb(theme.paper)))), reverse=True)
        if (light + 0.05) / (dark + 0.05) >= CONTRAST:
            break
    return to_hex(mixed)


def _luminance(color: np.ndarray) -> float:
    linear = np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def intervals(records: Sequence[Record], metric: str, *, caption: str = "", theme: Theme = LIGHT) -> Figure:
    """A panel a subset, a line a method: the metric with its 95% interval, and a rule at the first method's.

    A method that does not apply has no line.
    """
    chosen = [record for record in records if record["metric"] == metric and not record.get("refusal")]
    if not chosen:
        raise ValueError(f"No record of {metric!r}: the table has {', '.join(sorted({r['metric'] for r in records}))}.")
    methods, names = listed(chosen), subsets(chosen)
    columns = min(4, len(names))
    lines = -(-len(names) // columns)
    size = (2.1 + 1.75 * columns, lines * (0.62 + 0.27 * len(methods)) + 0.55)
    figure = Figure(figsize=size, layout="constrained", facecolor=theme.paper)
    axes = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axis, name in zip(axes, names, strict=False):
        cells = {group(record): record for record in chosen if record["subset"] == name}
        plain(axis, theme, rules="x")
        axis.set_title(words(name), loc="left", fontsize=9.5, color=theme.ink, weight="bold")
        for line, method in enumerate(methods):
            if group(method) in cells:
                _point(axis, line, cells[group(method)], theme)
        if group(methods[0]) in cells:
            axis.axvline(number(cells[group(methods[0])]["value"]), color=theme.muted, lw=0.8, ls=(0, (2, 2)), zorder=0)
    for axis in axes[len(names) :]:
        axis.set_visible(False)
    axes[0].set_yticks(range(len(methods)), [label(method, chosen) for method in methods])
    axes[0].set_ylim(len(methods) - 0.4, -0.6)
    axes[0].margins(x=0.1)
    axes[columns * (lines - 1)].set_xlabel(words(metric), loc="left", fontsize=9, color=theme.ink)
    return captioned(figure, caption, theme)


def _point(axis: Axes, line: int, record: Record, theme: Theme) -> None:
    value, low, high = (number(record[name]) for name in ("value", "low", "high"))
    color = COLORS.get(record["method"], theme.ink)
    axis.plot([low, high], [line, line], color=color, lw=2.2, solid_capstyle="butt")
    hollow = record["method"] in CONTROLS + ORACLES
    face = theme.paper if hollow else color
    axis.plot(value, line, MARKERS.get(record["method"], "o"), ms=6, mfc=face, mec=color, mew=1.6)
    if np.isfinite(value):
        halo = [withStroke(linewidth=2.5, foreground=theme.paper)]
        style: dict[str, Any] = {"ha": "center", "fontsize": 7, "color": theme.muted, "path_effects": halo}
        axis.annotate(f"{value:.3f}", (value, line), (0, 5), textcoords="offset points", **style)


def plain(axis: Axes, theme: Theme, rules: Literal["x", "y"]) -> None:
    axis.set_facecolor("none")
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.spines["bottom"].set_color(theme.rule)
    axis.grid(axis=rules, color=theme.rule, lw=0.7)
    axis.set_axisbelow(True)
    axis.tick_params(which="both", colors=theme.muted, labelcolor=theme.ink, labelsize=8.5, length=0)


def captioned(figure: Figure, caption: str, theme: Theme, marks: str = "") -> Figure:
    """The caption below the figure, and what its marks are: it is often shown without its page."""
    if caption := "; ".join(filter(None, (caption, marks))):
        wide, high = figure.get_size_inches()
        lines = textwrap.wrap(caption, int(wide * CAPTION_LETTERS))
        below = (0.12 + 0.12 * len(lines)) / high
        figure.set_layout_engine("constrained", rect=(0, below, 1, 1 - below))
        figure.text(0.012, 0.06 / high, "\n".join(lines), fontsize=7.5, color=theme.muted, va="bottom")
    return figure


def save(figure: Figure, file: str | Path) -> Path:
    """Write a PNG at twice the size of the screen's points; the background is the theme's."""
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=DPI)
    return file


def both(folder: Path, name: str, draw: Callable[..., Figure]) -> Path:
    """Save what `draw(theme)` makes in both themes, `figures/<name>.png` and `<name>-dark.png`; gives the first."""
    save(draw(DARK), folder / "figures" / f"{name}-dark.png")
    return save(draw(LIGHT), folder / "figures" / f"{name}.png")

"""Figures of what is known before steering: the probe over blocks and over training questions, and the margins."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from studies.measure import Record
from studies.report.figures.style import LIGHT, Theme, captioned, plain
from studies.report.naming import COLORS

PROBE = COLORS["LinearProbe"]
YES, NO = "#0072b2", "#d55e00"
BINS = 40


def knowledge(
    blocks: Sequence[Record],
    questions: Sequence[Record],
    levels: Sequence[tuple[str, str, float]],
    *,
    caption: str = "",
    theme: Theme = LIGHT,
) -> Figure:
    """Left the probe's accuracy over the blocks, right probe and threshold over the number of training questions.

    `levels` are lines in the left panel: (name, method, accuracy).
    """
    panels = 2 if questions else 1
    figure = Figure(figsize=(4.6 * panels, 3.2), layout="constrained", facecolor=theme.paper)
    axes = figure.subplots(1, panels, sharey=True, squeeze=False).ravel()
    plain(axes[0], theme, rules="y")
    _band(axes[0], blocks, "reads", PROBE, "linear probe")
    for name, method, value in levels:
        axes[0].axhline(value, color=COLORS.get(method, theme.ink), lw=1.4, ls=(0, (4, 2)), label=name)
    axes[0].set_xlabel("block whose last prompt token is read", fontsize=8.5, color=theme.muted)
    axes[0].set_ylabel("accuracy", fontsize=8.5, color=theme.muted)
    axes[0].legend(fontsize=8, frameon=False, labelcolor=theme.ink, loc="best")
    if questions:
        plain(axes[1], theme, rules="y")
        for way, color, name in (
            ("probe", PROBE, "linear probe"),
            ("threshold", COLORS["LogitThreshold"], "threshold"),
        ):
            _band(axes[1], [record for record in questions if record["way"] == way], "questions", color, name)
        counts = sorted({record["questions"] for record in questions})
        axes[1].set_xscale("log")
        axes[1].set_xticks(counts, [f"{count:.0f}" for count in counts])
        axes[1].set_xticks([], minor=True)
        axes[1].set_xlabel("training questions", fontsize=8.5, color=theme.muted)
        axes[1].legend(fontsize=8, frameon=False, labelcolor=theme.ink, loc="best")
    return captioned(figure, caption, theme, "bands are 95% intervals")


def margins(
    panels: Sequence[tuple[str, Float[np.ndarray, " prompts"], float]],
    yes: Bool[np.ndarray, " prompts"],
    *,
    caption: str = "",
    theme: Theme = LIGHT,
) -> Figure:
    """A panel a kind of margin, (title, values, threshold): how those lie whose answer is yes, and those of a no."""
    figure = Figure(figsize=(4.6 * len(panels), 2.6), layout="constrained", facecolor=theme.paper)
    for axis, (title, values, cut) in zip(figure.subplots(1, len(panels), squeeze=False).ravel(), panels, strict=True):
        plain(axis, theme, rules="y")
        axis.set_title(title, loc="left", fontsize=9.5, color=theme.ink, weight="bold")
        edges = np.linspace(values.min(), values.max() + 1e-6, BINS + 1)
        for name, color, own in (("yes is right", YES, values[yes]), ("no is right", NO, values[~yes])):
            style: dict[str, Any] = {"color": color, "alpha": 0.55, "label": name}
            axis.hist(own, edges, **style)
        axis.axvline(cut, color=theme.ink, lw=1.2, ls=(0, (4, 2)), label="best threshold in training")
        axis.set_xlabel("logit(yes) \u2212 logit(no)", fontsize=8.5, color=theme.muted)
        axis.legend(fontsize=8, frameon=False, labelcolor=theme.ink)
    return captioned(figure, caption, theme)


def _band(axis: Axes, records: Sequence[Record], field: str, color: str, name: str) -> None:
    points = sorted(records, key=lambda record: record[field])
    x, value, low, high = (np.array([one[key] for one in points], float) for key in (field, "value", "low", "high"))
    axis.fill_between(x, low, high, color=color, alpha=0.18, lw=0)
    axis.plot(x, value, color=color, lw=1.8, marker="o", ms=3.5, label=name)

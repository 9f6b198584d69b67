"""The figure of an ablation: a line a variant, grouped by factor, in two measures side by side."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from studies.measure import Record
from studies.report.figures.style import LIGHT, Theme, captioned, plain
from studies.report.naming import COLORS, number, words

COLOR = COLORS["L2S"]


def ablation_bars(
    records: Sequence[Record],
    objective: str,
    *,
    defaults: Mapping[str, str] | None = None,
    caption: str = "",
    theme: Theme = LIGHT,
) -> Figure:
    """The objective and the cosine of every variant with 95% intervals; small dots are single seeds.

    Records have factor, level, metric, value, low, high and by_seed. The default, whose factor is empty, is the first
    line, and its interval a band behind the others. `defaults` tell a factor's level in it, which is written beside the
    factor's first line.
    """
    lines = list(dict.fromkeys((record["factor"], record["level"]) for record in records))
    lines.sort(key=lambda line: (line[0] != "", line[0] == "reference"))
    height = 1.0 + 0.215 * (len(lines) + 0.5 * len({factor for factor, _ in lines}))
    figure = Figure(figsize=(8.2, height), layout="constrained", facecolor=theme.paper)
    axes = figure.subplots(1, 2, sharey=True)
    places, y, before = {}, 0.0, ""
    for line in lines:
        y += 1.0 + (0.5 if line[0] != before else 0.0)
        places[line], before = y, line[0]
    for axis, metric in zip(axes, (objective, "cosine"), strict=True):
        plain(axis, theme, rules="x")
        axis.set_title(words(metric), loc="left", fontsize=9.5, color=theme.ink, weight="bold")
        for record in records:
            if record["metric"] == metric:
                _variant(axis, places[record["factor"], record["level"]], record, theme)
    first = dict(reversed(lines))
    told = [(defaults or {}).get(factor, "") if first[factor] == level else "" for factor, level in lines]
    labels = [_named(*line, default) for line, default in zip(lines, told, strict=True)]
    axes[0].set_yticks([places[line] for line in lines], labels)
    axes[0].set_ylim(y + 0.8, 0.2)
    marks = "bars are 95% intervals, small dots single seeds, the band is the default's interval"
    return captioned(figure, caption, theme, marks)


def _variant(axis: Axes, y: float, record: Record, theme: Theme) -> None:
    value, low, high = (number(record[name]) for name in ("value", "low", "high"))
    if not record["factor"]:
        axis.axvspan(low, high, color=COLOR, alpha=0.1, lw=0, zorder=0)
    color = COLORS.get(record["level"], theme.ink) if record["factor"] == "reference" else COLOR
    axis.plot([low, high], [y, y], color=color, lw=2.0, solid_capstyle="butt")
    axis.plot(value, y, "o", ms=5, color=color)
    axis.plot(record["by_seed"], [y + 0.3] * len(record["by_seed"]), "o", ms=1.8, color=theme.muted)


def _named(factor: str, level: str, default: str) -> str:
    if not factor:
        return "default"
    beside = f" (default: {words(default)})" if default else ""
    return level if factor == "reference" else f"{words(factor)}: {words(level)}{beside}"

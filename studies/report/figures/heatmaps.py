"""Figures of a layer sweep: a map of layer pairs, and curves over one of the two layers with 95% bands."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from studies.measure import Record, called
from studies.report.figures.style import LIGHT, MARKERS, Theme, captioned, plain
from studies.report.naming import COLORS, listed, number, words

WRITTEN_UP_TO = 12  # layers a side; more values than that cannot be read


def heat_maps(panels: Sequence[tuple[str, Sequence[Record]]], *, caption: str = "", theme: Theme = LIGHT) -> Figure:
    """A panel a list of records: their `value` by `writes` (upwards) and `reads` (to the right).

    The cell with `chosen` is framed, else the best. Where a record has `reach`, its number is bold if it cannot be told
    from the best, and where it has `kept`, a cell is struck out if it is False. Raises ValueError for a panel without
    records.
    """
    if empty := [title for title, records in panels if not records]:
        raise ValueError(f"There is no cell for {', '.join(empty)}; a heat map needs one for each pair of layers.")
    sides = max(len({record["reads"] for record in records}) for _, records in panels)
    side = min(0.52 * sides + 1.3, 9.0)
    figure = Figure(figsize=(side * len(panels) + 0.6, side + 0.5), layout="constrained", facecolor=theme.paper)
    axes = figure.subplots(1, len(panels), squeeze=False).ravel()
    for axis, (title, records) in zip(axes, panels, strict=True):
        _map(figure, axis, title, records, theme)
    return captioned(figure, caption, theme)


def _map(figure: Figure, axis: Axes, title: str, records: Sequence[Record], theme: Theme) -> None:
    reads, writes = (sorted({record[name] for record in records}) for name in ("reads", "writes"))
    values = np.full((len(writes), len(reads)), np.nan)
    for record in records:
        values[writes.index(record["writes"]), reads.index(record["reads"])] = number(record["value"])
    image = axis.imshow(values, origin="lower", cmap="viridis", aspect="equal")
    axis.set_title(title, loc="left", fontsize=9.5, color=theme.ink, weight="bold")
    axis.set_xticks(range(len(reads)), [str(layer) for layer in reads])
    axis.set_yticks(range(len(writes)), [str(layer) for layer in writes])
    axis.set_xlabel("context read at block L'", fontsize=8.5, color=theme.muted)
    axis.set_ylabel("steered at block L*", fontsize=8.5, color=theme.muted)
    axis.tick_params(colors=theme.muted, labelcolor=theme.ink, labelsize=8.5, length=0)
    axis.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axis, shrink=0.75, pad=0.02)
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.ax.tick_params(labelsize=7.5, length=0, labelcolor=theme.muted)
    middle = (np.nanmin(values) + np.nanmax(values)) / 2
    for record in records:
        x, y = reads.index(record["reads"]), writes.index(record["writes"])
        ink = "#101418" if number(record["value"]) > middle else "#f4f6f8"
        if not record.get("kept", True):
            axis.plot([x - 0.4, x + 0.4], [y - 0.4, y + 0.4], color=ink, lw=0.8)
        if len(reads) <= WRITTEN_UP_TO:
            weight = "bold" if record.get("reach") else "normal"
            style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 6.8, "color": ink, "weight": weight}
            axis.text(x, y, f"{number(record['value']):.2f}".replace("0.", ".", 1), **style)
    framed = next((r for r in records if r.get("chosen")), max(records, key=lambda record: number(record["value"])))
    corner = (reads.index(framed["reads"]) - 0.5, writes.index(framed["writes"]) - 0.5)
    for color, width in (("#ffffff", 2.2), ("#101418", 0.9)):
        axis.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=color, lw=width))


def over_layers(
    records: Sequence[Record], x: str, metrics: Sequence[str], *, title: str, caption: str = "", theme: Theme = LIGHT
) -> Figure:
    """A panel a metric: its value over the layer `x` ("reads" or "writes"), a line a method with its 95% band.

    A method whose records have no such layer is a level dashed line with its band. `title` is the axis's name.
    """
    shape = (4.4 * len(metrics) + 1.2, 3.3)
    figure = Figure(figsize=shape, layout="constrained", facecolor=theme.paper)
    axes = figure.subplots(1, len(metrics), squeeze=False).ravel()
    for axis, metric in zip(axes, metrics, strict=True):
        chosen = [record for record in records if record["metric"] == metric]
        plain(axis, theme, rules="y")
        axis.set_title(words(metric), loc="left", fontsize=9.5, color=theme.ink, weight="bold")
        axis.set_xlabel(title, fontsize=8.5, color=theme.muted)
        layers = sorted({record[x] for record in chosen if record[x] is not None})
        if len(layers) <= 2 * WRITTEN_UP_TO:
            axis.set_xticks(layers, [str(layer) for layer in layers])
        for name in dict.fromkeys(map(called, listed(chosen))):
            _line(axis, [record for record in chosen if called(record) == name], x, layers, name, theme)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right upper", fontsize=8, frameon=False, labelcolor=theme.ink)
    return captioned(figure, caption, theme, "bands are 95% intervals")


def _line(axis: Axes, own: Sequence[Record], x: str, layers: Sequence[int], name: str, theme: Theme) -> None:
    method = own[0]["method"]
    color, level = COLORS.get(method, theme.ink), all(record[x] is None for record in own)
    points = sorted(own, key=lambda record: -1 if record[x] is None else record[x])
    values = np.array([[number(record[field]) for field in ("value", "low", "high")] for record in points]).T
    if level:
        axis.axhspan(float(values[1, 0]), float(values[2, 0]), color=color, alpha=0.14, lw=0)
        axis.axhline(float(values[0, 0]), color=color, lw=1.3, ls=(0, (4, 2)), label=name)
        return
    places = [record[x] for record in points]
    axis.fill_between(places, values[1], values[2], color=color, alpha=0.18, lw=0)
    axis.plot(places, values[0], color=color, lw=1.8, marker=MARKERS.get(method, "o"), ms=3.8, label=name)

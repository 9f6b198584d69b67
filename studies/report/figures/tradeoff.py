"""Effect against quality: the points of a strength sweep, those that no other beats on both, and their figure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from studies.measure import ALL, GROUP, Record, called, group
from studies.report.figures.style import LIGHT, MARKERS, Theme, captioned, plain, readable
from studies.report.naming import COLORS, CONTROLS, ORACLES, listed, number, words

NOTHING = 1e-9  # a loss of quality below it is a rounding error
DECADE = 4.0  # the width of a decade of loss, in lanes


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


@dataclass(frozen=True)
class Scale:
    """Where a loss of quality stands: on a logarithmic axis, and left of it no loss, a lane a method.

    Most settings lose nothing, and on one axis they would all lie on each other.
    """

    unsteered: float
    lanes: tuple[str, ...]
    least: float  # where the logarithmic axis begins

    @classmethod
    def of(cls, among: Sequence[Record]) -> "Scale":
        unsteered = next((p["quality"][0] for p in among if p["method"] == "NoSteering"), 1.0)
        lanes = tuple(dict.fromkeys(called(point) for point in listed(among)))
        lost = [loss for loss in (1 - point["quality"][0] / unsteered for point in among) if loss > NOTHING]
        return cls(unsteered, lanes, 10.0 ** np.floor(np.log10(min([0.01, *lost]))))

    @property
    def width(self) -> float:
        """Of an axis that ends where all quality is lost."""
        return self.of_loss(1.0)

    def of_loss(self, loss: float) -> float:
        return len(self.lanes) + 0.6 + DECADE * float(np.log10(max(loss, self.least) / self.least))

    def of_quality(self, quality: float, name: str) -> float:
        loss = 1 - quality / self.unsteered
        return self.of_loss(loss) if loss > NOTHING else self.lanes.index(name) + 0.5

    def ticks(self) -> tuple[list[float], list[str]]:
        decades = round(-float(np.log10(self.least)))
        losses = sorted(
            {*(10.0**-power for power in range(decades + 1)), *(3 * 10.0 ** -(p + 1) for p in range(decades))}
        )
        return (
            [len(self.lanes) / 2, *map(self.of_loss, losses)],
            ["none, a lane a method", *(f"{loss:.1%}".replace(".0%", "%") for loss in losses)],
        )


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
    """Effect over the quality that it costs, relative to no steering: a line a method through its strengths in order.

    The wide step line with squares is the front, the most effect that a method reaches for a loss. The dotted rules are
    the loss within the budget, `least`, and the unsteered effect; rings are the `chosen` settings (as `metrics.group`
    gives them). Strengths and 95% intervals stand at these, at the front, and strengths also at each method's best and
    strongest setting.
    """
    figure = Figure(figsize=(8.4, 4.8), layout="constrained", facecolor=theme.paper)
    axis, scale, best = figure.subplots(), Scale.of(among), front(among)
    plain(axis, theme, rules="y")
    if places := [_place(point, scale) for point in best]:
        free = [y for x, y in places if x < len(scale.lanes)]  # lanes have no order: of what is free the most counts
        steps = [(0.0, max(free))] * bool(free) + [place for place in places if place[0] > len(scale.lanes)]
        x, y = zip(*steps, (scale.width, steps[-1][1]), strict=True)
        wide: dict[str, Any] = {"color": theme.ink, "alpha": 0.2, "zorder": 0, "lw": 4}
        axis.step(x, y, where="post", label="front: most effect for a loss", **wide)
        axis.plot(*zip(*places, strict=True), "s", ms=14, mew=0, **wide)
    for name in scale.lanes:
        own = sorted((p for p in among if called(p) == name), key=lambda point: point["strength"] or 0.0)
        _method(axis, own, name, scale, theme)
        named = [max(own, key=lambda point: point["effect"][0]), own[-1]]
        marked = [point for point in own if group(point) in chosen or point in best]
        for point in marked:
            _intervals(axis, point, scale, theme)
        for point in (p for p in own if group(p) in chosen):
            axis.plot(*_place(point, scale), "o", ms=11, mfc="none", mec=_color(point, theme), mew=1.3)
        _strengths(axis, [p for p in own if p["strength"] is not None and (p in named or p in marked)], scale, theme)
    for point in (p for p in among if p["method"] == "NoSteering"):
        axis.axhline(point["effect"][0], color=theme.muted, lw=0.9, ls=(0, (2, 2)), zorder=0)
    axis.axvline(scale.of_loss(1 - least / scale.unsteered), color=theme.muted, lw=0.9, ls=(0, (2, 2)), zorder=0)
    axis.axvspan(0, len(scale.lanes), color=theme.muted, alpha=0.07, lw=0, zorder=0)
    axis.set_xticks(*scale.ticks())
    axis.set_xlim(0, scale.width + 0.8)
    axis.set_xlabel(f"quality lost: {words(quality)}, relative to no steering", fontsize=9, color=theme.ink)
    axis.set_ylabel(f"effect: {words(effect)}", fontsize=9, color=theme.ink)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False, labelcolor=theme.ink)
    return captioned(figure, caption, theme, "numbers are strengths; bars are 95% intervals")


def _color(point: Record, theme: Theme) -> str:
    return COLORS.get(point["method"], theme.ink)


def _place(point: Record, scale: Scale) -> tuple[float, float]:
    return scale.of_quality(point["quality"][0], called(point)), point["effect"][0]


def _method(axis: Axes, own: Sequence[Record], name: str, scale: Scale, theme: Theme) -> None:
    method, color = own[0]["method"], _color(own[0], theme)
    hollow = method in CONTROLS + ORACLES
    style: dict[str, Any] = {"mfc": theme.paper if hollow else color, "mec": color, "color": color}
    style["ls"] = (0, (2, 1.6)) if method in CONTROLS else "-"  # it may lie on the method that it controls
    x, y = zip(*(_place(point, scale) for point in own), strict=True)
    axis.plot(x, y, marker=MARKERS.get(method, "o"), ms=4, lw=1.3, alpha=0.95, label=name, **style)


def _intervals(axis: Axes, point: Record, scale: Scale, theme: Theme) -> None:
    """Of the effect, and of the quality where some is lost: no loss has no place on a logarithmic axis."""
    (x, y), name = _place(point, scale), called(point)
    style: dict[str, Any] = {"color": _color(point, theme), "alpha": 0.55, "lw": 1.2}
    axis.plot([x, x], point["effect"][1:], **style)
    if x > len(scale.lanes):
        ends = [max(scale.of_quality(quality, name), len(scale.lanes)) for quality in point["quality"][1:]]
        axis.plot(ends, [y, y], **style)


def _strengths(axis: Axes, own: Sequence[Record], scale: Scale, theme: Theme) -> None:
    """The strengths of one method's points; those of points that stand close together are one text."""
    bottom, top = axis.get_ylim()
    texts: list[tuple[tuple[float, float], list[str]]] = []
    for point in own:
        x, y = _place(point, scale)
        near = (some for (left, height), some in texts if abs(left - x) < 1 and abs(height - y) < 0.05 * (top - bottom))
        if (some := next(near, None)) is None:
            texts.append(((x, y), some := []))
        some.append(f"{point['strength']:g}")
    for place, strengths in texts:
        axis.annotate(
            ", ".join(strengths),
            place,
            (7, 3),
            textcoords="offset points",
            fontsize=7,
            color=readable(_color(own[0], theme), theme),
            path_effects=[withStroke(linewidth=2, foreground=theme.paper)],
        )

"""What a model saw and said, block by block: where it looked, what each block would have said, what steering moved."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from studies.report.figures.style import LIGHT, Theme, captioned, plain
from studies.report.naming import COLORS

SHOWN = 6  # blocks a row of maps has at most
DASHES = ("-", (0, (4, 2)))  # the first word, the second one


def maps_over_picture(
    image: Image.Image,
    maps: Mapping[str, Float[np.ndarray, "layers height width"]],
    *,
    caption: str = "",
    theme: Theme = LIGHT,
) -> Figure:
    """The picture, then a row for each setting: its attention over the picture at a few blocks, on one scale.

    Raises ValueError where there is no setting.
    """
    if not maps:
        raise ValueError("There is no map to draw; give one for each setting.")
    layers = len(next(iter(maps.values())))
    blocks = sorted({round(place) for place in np.linspace(0, layers - 1, min(SHOWN, layers))})
    top = max(float(each[blocks].max()) for each in maps.values())
    size = (1.35 * (len(blocks) + 1) + 0.9, 1.55 * len(maps) + 0.45)
    figure = Figure(figsize=size, layout="constrained", facecolor=theme.paper)
    axes = figure.subplots(len(maps), len(blocks) + 1, squeeze=False)
    picture = np.asarray(image.convert("RGB"))
    grey = np.asarray(image.convert("L").convert("RGB")) // 2 + 96
    for row, (name, own) in zip(axes, maps.items(), strict=True):
        row[0].imshow(picture, interpolation="nearest")
        row[0].set_ylabel(name, fontsize=9, color=theme.ink, weight="bold")
        for axis, block in zip(row[1:], blocks, strict=True):
            axis.imshow(grey, interpolation="nearest")
            extent = (-0.5, picture.shape[1] - 0.5, picture.shape[0] - 0.5, -0.5)
            drawn = axis.imshow(own[block], cmap="inferno", alpha=0.72, vmin=0, vmax=top, extent=extent)
            axis.set_title(f"block {block}: {own[block].sum():.0%}", fontsize=8, color=theme.muted)
    for axis in axes.ravel():
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set_visible(False)
    bar = figure.colorbar(drawn, ax=axes, shrink=0.7, pad=0.01)
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.ax.tick_params(labelsize=7, length=0, labelcolor=theme.muted)
    return captioned(figure, caption, theme)


def lens_lines(
    words: Sequence[str],
    lenses: Mapping[str, Float[np.ndarray, "layers words"]],
    steered: Sequence[int],
    *,
    caption: str = "",
    theme: Theme = LIGHT,
) -> Figure:
    """The probability of each word over the blocks, a colour a setting and a dash a word; dotted: steered blocks."""
    figure = Figure(figsize=(6.4, 3.2), layout="constrained", facecolor=theme.paper)
    axis = figure.subplots()
    _over_blocks(axis, len(next(iter(lenses.values()))), steered, theme)
    for name, own in lenses.items():
        for place, word in enumerate(words):
            color = COLORS.get(name, theme.ink)
            axis.plot(np.exp(own[:, place]), color=color, lw=1.8, ls=DASHES[place % 2], label=f"{name}: {word!r}")
    axis.set_ylim(-0.02, 1.02)
    axis.set_ylabel("probability as the next token", fontsize=8.5, color=theme.muted)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False, labelcolor=theme.ink)
    return captioned(figure, caption, theme)


def movement(
    moved: Float[np.ndarray, " layers"],
    tokens: Sequence[str],
    stream: Float[np.ndarray, " tokens"],
    added: Float[np.ndarray, " tokens"],
    steered: Sequence[int],
    *,
    caption: str = "",
    theme: Theme = LIGHT,
) -> Figure:
    """Left: how far the last prompt token is moved over the blocks, in multiples of its norm. Right: token by token,
    the norm of the residual stream where steering acts, and of what was added to it.
    """
    figure = Figure(figsize=(10.4, 3.2), layout="constrained", facecolor=theme.paper)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.3))
    _over_blocks(left, len(moved), steered, theme)
    left.plot(moved, color=COLORS["L2S"], lw=1.8, marker="o", ms=3.8)
    left.set_ylim(bottom=0)
    left.set_title("moved, in norms of the state", loc="left", fontsize=9.5, color=theme.ink, weight="bold")
    plain(right, theme, rules="y")
    places = np.arange(len(tokens))
    right.bar(places - 0.2, stream, 0.4, color=COLORS["NoSteering"], label="residual stream")
    right.bar(places + 0.2, added, 0.4, color=COLORS["L2S"], label="added")
    right.set_xticks(places, [token.replace("$", r"\$") for token in tokens], rotation=45, ha="right")
    right.set_title("norms, token by token", loc="left", fontsize=9.5, color=theme.ink, weight="bold")
    figure.legend(loc="outside right upper", fontsize=8, frameon=False, labelcolor=theme.ink)
    return captioned(figure, caption, theme)


def _over_blocks(axis: Axes, layers: int, steered: Sequence[int], theme: Theme) -> None:
    plain(axis, theme, rules="y")
    axis.set_xlabel("block", fontsize=8.5, color=theme.muted)
    axis.set_xticks(range(0, layers, 1 if layers <= 16 else 4))
    for block in steered:
        axis.axvline(block, color=theme.muted, lw=0.9, ls=(0, (1, 2)))

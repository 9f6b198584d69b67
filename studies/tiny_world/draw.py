"""Drawing a scene: small icons, each a shape in a colour, at a random contrast and under pixel noise."""

from functools import cache

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw

from studies.tiny_world.world import GRID, ICONS, Scene

CELL = 16  # pixels
ICON = 11  # pixels
CONTRAST = (0.3, 1.0)
NOISE = 14.0  # standard deviation, in grey levels
_BACKGROUND = (100.0, 140.0)
_OVERSAMPLING = 8
_RGB = {
    "red": (235, 30, 30),
    "green": (30, 200, 50),
    "blue": (40, 60, 250),
    "yellow": (250, 230, 30),
    "magenta": (240, 40, 220),
    "cyan": (30, 230, 240),
}


def draw(scene: Scene, seed: int, margin: tuple[int, int] = (0, 0)) -> Image.Image:
    """The scene as an RGB image of 48 x 48 pixels; the same seed gives the same pixels.

    `margin` is a number of empty columns and rows of cells beside the grid (for models that take images of any size).
    """
    return draw_with(scene, np.random.default_rng([seed, 7]), margin)[0]


def draw_with(scene: Scene, rng: Generator, margin: tuple[int, int] = (0, 0)) -> tuple[Image.Image, tuple[int, int]]:
    """`draw` with a generator that the caller owns; also the (left, top) cell at which the grid was put."""
    columns, rows = GRID + margin[0], GRID + margin[1]
    left, top = int(rng.integers(margin[0] + 1)), int(rng.integers(margin[1] + 1))
    canvas = np.empty((rows * CELL, columns * CELL, 3))
    canvas[:] = rng.uniform(*_BACKGROUND) + rng.normal(0.0, 4.0, size=3)
    for word, cell in zip(scene.icons, scene.cells, strict=True):
        row, column = divmod(cell, GRID)
        y = (row + top) * CELL + int(rng.integers(CELL - ICON + 1))
        x = (column + left) * CELL + int(rng.integers(CELL - ICON + 1))
        cover = rng.uniform(*CONTRAST) * _mask(ICONS[word].shape)[..., None]
        patch = canvas[y : y + ICON, x : x + ICON]
        patch += cover * (np.array(_RGB[ICONS[word].color]) - patch)
    canvas += rng.normal(0.0, NOISE, size=canvas.shape)
    return Image.fromarray(np.clip(np.rint(canvas), 0, 255).astype(np.uint8)), (left, top)


@cache
def _mask(shape: str) -> np.ndarray:
    """How much of each pixel the shape covers, [ICON, ICON], 0 to 1."""
    side = ICON * _OVERSAMPLING
    image = Image.new("L", (side, side), 0)
    _SHAPES[shape](ImageDraw.Draw(image), side - 1)
    image = image.resize((ICON, ICON), Image.Resampling.BOX)
    return np.asarray(image, dtype=float) / 255


_SHAPES = {
    "circle": lambda pen, s: pen.ellipse((0, 0, s, s), fill=255),
    "square": lambda pen, s: pen.rectangle((0, 0, s, s), fill=255),
    "triangle": lambda pen, s: pen.polygon([(s / 2, 0), (s, s), (0, s)], fill=255),
    "diamond": lambda pen, s: pen.polygon([(s / 2, 0), (s, s / 2), (s / 2, s), (0, s / 2)], fill=255),
    "plus": lambda pen, s: (
        pen.rectangle((0.36 * s, 0, 0.64 * s, s), fill=255),
        pen.rectangle((0, 0.36 * s, s, 0.64 * s), fill=255),
    ),
    "cross": lambda pen, s: (
        pen.line((0, 0, s, s), fill=255, width=int(0.27 * s)),
        pen.line((0, s, s, 0), fill=255, width=int(0.27 * s)),
    ),
    "ring": lambda pen, s: pen.ellipse((0, 0, s, s), outline=255, width=int(0.25 * s)),
    "bar": lambda pen, s: pen.rectangle((0, 0.32 * s, s, 0.68 * s), fill=255),
    "pillar": lambda pen, s: pen.rectangle((0.32 * s, 0, 0.68 * s, s), fill=255),
    "arch": lambda pen, s: (
        pen.rectangle((0, 0, s, 0.27 * s), fill=255),
        pen.rectangle((0, 0, 0.27 * s, s), fill=255),
        pen.rectangle((0.73 * s, 0, s, s), fill=255),
    ),
}

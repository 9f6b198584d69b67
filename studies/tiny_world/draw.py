"""Drawing a scene: a pictogram in each of its cells, more or less faded, on a plain ground under pixel noise."""

from functools import cache
from pathlib import Path

import numpy as np
from numpy.random import Generator
from PIL import Image

from studies.tiny_world.world import GRID, Scene

CELL = 48  # pixels: a person reads the pictograms at this size
ICON = 40  # pixels
FADE = (0.35, 1.0)  # how much of a pictogram covers the ground
NOISE = 10.0  # standard deviation, in grey levels
PICTOGRAMS = Path(__file__).parent / "pictograms"
_GROUND = (150.0, 200.0)


def draw(scene: Scene, seed: int, margin: tuple[int, int] = (0, 0)) -> Image.Image:
    """The scene as an RGB image of 144 x 144 pixels; the same seed gives the same pixels.

    `margin` is a number of empty columns and rows of cells beside the grid (for models that take images of any size).
    """
    return draw_with(scene, np.random.default_rng([seed, 7]), margin)[0]


def draw_with(scene: Scene, rng: Generator, margin: tuple[int, int] = (0, 0)) -> tuple[Image.Image, tuple[int, int]]:
    """`draw` with a generator that the caller owns; also the (left, top) cell at which the grid was put."""
    columns, rows = GRID + margin[0], GRID + margin[1]
    left, top = int(rng.integers(margin[0] + 1)), int(rng.integers(margin[1] + 1))
    canvas = np.empty((rows * CELL, columns * CELL, 3), dtype=np.float32)
    canvas[:] = rng.uniform(*_GROUND) + rng.normal(0.0, 6.0, size=3)
    for word, cell in zip(scene.icons, scene.cells, strict=True):
        row, column = divmod(cell, GRID)
        y = (row + top) * CELL + int(rng.integers(CELL - ICON + 1))
        x = (column + left) * CELL + int(rng.integers(CELL - ICON + 1))
        colors, cover = pictogram(word)
        patch = canvas[y : y + ICON, x : x + ICON]
        patch += np.float32(rng.uniform(*FADE)) * cover * (colors - patch)
    canvas += np.float32(NOISE) * rng.standard_normal(canvas.shape, dtype=np.float32)
    return Image.fromarray(np.clip(np.rint(canvas), 0, 255).astype(np.uint8)), (left, top)


@cache
def pictogram(word: str) -> tuple[np.ndarray, np.ndarray]:
    """Its colours, [ICON, ICON, 3], 0 to 255, and how much of each pixel it covers, [ICON, ICON, 1], 0 to 1."""
    with Image.open(PICTOGRAMS / f"{word}.png") as image:
        # Premultiplied, so that the colour of what is transparent does not bleed into the edges.
        small = image.convert("RGBa").resize((ICON, ICON), Image.Resampling.BOX).convert("RGBA")
    pixels = np.asarray(small, dtype=np.float32)
    return pixels[..., :3], pixels[..., 3:] / 255

"""Drawing a scene: each thing's pictogram in a quarter of the picture, on a plain light ground."""

from functools import cache
from pathlib import Path

import numpy as np
from numpy.random import Generator
from PIL import Image

from studies.smol_world.scenes import Scene

PICTOGRAMS = Path(__file__).parent / "pictograms"
SIDE = 224  # pixels, the image encoder's
SIZES = (78, 108)  # pixels of a thing's longer side
GROUNDS = ((255, 255, 255), (240, 240, 235), (225, 235, 245), (230, 240, 225), (245, 235, 220), (210, 215, 220))

Box = tuple[int, int, int, int]


def draw(scene: Scene, seed: int) -> Image.Image:
    """The scene as an RGB image of 224 x 224 pixels; the same seed gives the same pixels."""
    return draw_with(scene, np.random.default_rng([seed, 11]))[0]


def draw_with(
    scene: Scene, rng: Generator, pictures: dict[str, Image.Image] | None = None
) -> tuple[Image.Image, dict[str, Box]]:
    """`draw` with a generator that the caller owns; also where each thing lies, as (left, top, right, bottom).

    `pictures` are cut-outs with transparency by word; the shipped pictograms by default.
    """
    canvas = Image.new("RGB", (SIDE, SIDE), GROUNDS[rng.integers(len(GROUNDS))])
    boxes: dict[str, Box] = {}
    for word, quarter in zip(scene.words, scene.quarters, strict=True):
        picture = pictogram(word) if pictures is None else pictures[word]
        scale = rng.uniform(*SIZES) / max(picture.size)
        picture = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
        if rng.random() < 0.5:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        room = SIDE // 2
        left = quarter % 2 * room + int(rng.integers(max(1, room - picture.width + 1)))
        top = quarter // 2 * room + int(rng.integers(max(1, room - picture.height + 1)))
        canvas.paste(picture, (left, top), picture)
        boxes[word] = (left, top, left + picture.width, top + picture.height)
    return canvas, boxes


@cache
def pictogram(word: str) -> Image.Image:
    """The shipped picture of a thing, with transparency."""
    with Image.open(PICTOGRAMS / f"{word}.webp") as picture:
        return picture.convert("RGBA")

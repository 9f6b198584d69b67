"""Scenes with the image encoder's cells, worked out once: the encoder is frozen, and training looks at them often."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interv.progress import track
from studies.smol_world.draw import Box, draw_with
from studies.smol_world.scenes import Scene, Split, sample_scene
from studies.smol_world.words import THINGS

BATCH = 16  # pictures
WORDS = THINGS.words
NOTHING = len(WORDS)  # the label of a cell that shows no thing


@dataclass(frozen=True)
class Pool:
    """`cells` are the tower's; `labels` say which of the words each cell shows at its middle, or NOTHING."""

    scenes: list[Scene]
    cells: Float[Tensor, "scenes cells width"]
    labels: Int[Tensor, "scenes cells"]


@torch.no_grad()
def make_pool(tower: torch.nn.Module, images, split: Split, count: int, seed: int) -> Pool:
    """So many scenes of a split, drawn and encoded; `images` is the processor's part for pictures."""
    rng = np.random.default_rng([seed, 3])
    scenes = [sample_scene(rng, split) for _ in range(count)]
    cells, labels = [], []
    for start in track(range(0, count, BATCH), f"cells of {count} scenes"):
        drawn = [draw_with(scene, rng) for scene in scenes[start : start + BATCH]]
        pixels = images([image for image, _ in drawn], return_tensors="pt")["pixel_values"]
        cells.append(tower(pixels).last_hidden_state.half())
        side = round(cells[-1].shape[1] ** 0.5)
        labels += [_labels(boxes, side, drawn[0][0].width // side) for _, boxes in drawn]
    return Pool(scenes, torch.cat(cells), torch.tensor(labels))


def _labels(boxes: dict[str, Box], side: int, pixels: int) -> list[int]:
    labels = [NOTHING] * (side * side)
    for word, (left, top, right, bottom) in boxes.items():
        for cell in range(side * side):
            row, column = divmod(cell, side)
            x, y = (column + 0.5) * pixels, (row + 0.5) * pixels
            if left < x < right and top < y < bottom:
                labels[cell] = WORDS.index(word)
    return labels

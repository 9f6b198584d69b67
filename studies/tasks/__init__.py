"""The tasks by name: on the embedded worlds, and on the real benchmarks."""

from collections.abc import Callable
from pathlib import Path

from studies.judges.panel import Panel
from studies.recipes.recipe import Recipe
from studies.tasks.chair import Chair
from studies.tasks.mm_safety import MMSafety
from studies.tasks.pictures_captions import PicturesCaptions
from studies.tasks.pictures_pope import PicturesPope
from studies.tasks.pope import Pope
from studies.tasks.shapes_captions import ShapesCaptions
from studies.tasks.shapes_pope import ShapesPope
from studies.tasks.shapes_safety import ShapesSafety
from studies.tasks.task import Example, Split, Task

TASKS: dict[str, Callable[[], Task]] = {
    "shapes_pope": ShapesPope,
    "shapes_safety": ShapesSafety,
    "shapes_captions": ShapesCaptions,
}
# Each is made from a folder of named cut-outs, or without one from the shipped pictograms.
PICTURES: dict[str, Callable[[Path | None], Task]] = {
    "pictures_pope": PicturesPope.load,
    "pictures_captions": PicturesCaptions.load,
}
# Each is made from its data (a folder, or None for the hub's data set), the recipe, which says how it is asked, and the
# judges of its replies.
BENCHMARKS: dict[str, Callable[[Path | None, Recipe, Panel], Task]] = {
    "pope": lambda data, recipe, panel: Pope.load(data, recipe),
    "mm_safety": MMSafety.load,
    "chair": Chair.load,
}

__all__ = ["BENCHMARKS", "PICTURES", "TASKS", "Example", "Split", "Task"]

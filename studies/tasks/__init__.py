"""The tasks by name: on the embedded world, and on the real benchmarks."""

from collections.abc import Callable
from pathlib import Path

from studies.recipe import Recipe
from studies.tasks.pope import Pope
from studies.tasks.shapes_pope import ShapesPope
from studies.tasks.shapes_safety import ShapesSafety
from studies.tasks.task import Example, Split, Task

TASKS: dict[str, Callable[[], Task]] = {"shapes_pope": ShapesPope, "shapes_safety": ShapesSafety}
# Each is made from its data (a folder, or None for the hub's data set) and the recipe, which says how it is asked.
BENCHMARKS: dict[str, Callable[[Path | None, Recipe], Task]] = {"pope": Pope.load}

__all__ = ["BENCHMARKS", "TASKS", "Example", "Split", "Task"]

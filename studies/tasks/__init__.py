"""The tasks by name."""

from collections.abc import Callable

from studies.tasks.shapes_pope import ShapesPope
from studies.tasks.shapes_safety import ShapesSafety
from studies.tasks.task import Example, Split, Task

TASKS: dict[str, Callable[[], Task]] = {"shapes_pope": ShapesPope, "shapes_safety": ShapesSafety}

__all__ = ["TASKS", "Example", "Split", "Task"]

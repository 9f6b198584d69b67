"""The tasks by name."""

from studies.tasks.shapes_pope import ShapesPope
from studies.tasks.shapes_safety import ShapesSafety
from studies.tasks.task import Example, Split, Task

TASKS: dict[str, type[Task]] = {task.name: task for task in (ShapesPope, ShapesSafety)}  # type: ignore[type-abstract]

__all__ = ["TASKS", "Example", "Split", "Task"]

"""CHAIR: captions, and the objects in them that the image does not show."""

from studies.tasks.chair.chair import Chair

__all__ = ["Chair"]

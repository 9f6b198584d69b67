"""Images that several prompts show, opened and processed once."""

import copy
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from interv.prompts.prompt import Prompt


class ImagesOnce:
    """A processor and a way to open images, for lists of prompts that show the same images in the same order.

    `processor` is the one that was given, except that images which it has just processed are not processed again.
    """

    def __init__(self, processor: Any) -> None:
        self.processor = copy.copy(processor)
        if getattr(processor, "image_processor", None) is not None:
            self.processor.image_processor = _Remembering(processor.image_processor)
        self._opened: dict[Hashable, tuple[Prompt, list[Image.Image]]] = {}

    def opened(self, prompt: Prompt) -> list[Image.Image]:
        """As `prompt.images()`; the same objects for every prompt that names or holds the same image."""
        key = shown_by(prompt)
        if key not in self._opened:
            self._opened[key] = (prompt, prompt.images())  # what an id stands for is kept as long as the id
        return self._opened[key][1]


def shown_by(prompt: Prompt) -> tuple[Hashable, ...]:
    """What prompts have in common that show the same images: their paths, or the very objects."""
    return tuple(str(one) if isinstance(one, str | Path) else id(one) for one in prompt.pictures())


class _Remembering:
    """An image processor that gives the same answer again when it is asked the same thing twice in a row."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor
        self._asked: tuple[list[Image.Image], dict[str, Any]] = ([], {})
        self._answer: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._processor, name)

    def __call__(self, images: Any, **options: Any) -> Any:
        flat = _flat(images)
        before, settings = self._asked
        same = len(flat) == len(before) and all(one is other for one, other in zip(flat, before, strict=True))
        if not same or options != settings:
            self._answer = self._processor(images, **options)
            self._asked = (flat, options)
        return copy.copy(self._answer)  # some processors take entries out


def _flat(images: Any) -> list[Image.Image]:
    if isinstance(images, Sequence):
        return [image for part in images for image in _flat(part)]
    return [images]

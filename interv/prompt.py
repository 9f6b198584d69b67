"""What is asked of the model: an image, a question, and how the assistant's turn begins."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps, UnidentifiedImageError

Picture = Image.Image | str | Path


@dataclass(frozen=True)
class Prompt:
    """One conversation that ends where the model is to go on.

    Args:
        image: a path, a PIL image, a sequence of these, or None for a text-only prompt.
        question: the text of the user's turn; the images come before it.
        answer: the forced start of the assistant's turn, without the blank that the chat template puts before it.
        system: the system turn; None leaves it to the chat template.
        closed: end the last turn instead of leaving it open: no generation prompt after a question, and the
            template's end-of-turn after an answer.
        history: earlier turns as (role, text), oldest first; the images belong to the last user turn.
    """

    image: Picture | Sequence[Picture] | None
    question: str
    answer: str = ""
    system: str | None = None
    closed: bool = False
    history: tuple[tuple[str, str], ...] = ()

    def images(self) -> list[Image.Image]:
        """The images as RGB, in order. Raises ValueError where a file is missing or cannot be read as an image."""
        if self.image is None:
            return []
        pictures = [self.image] if isinstance(self.image, Image.Image | str | Path) else list(self.image)
        return [_open(picture) for picture in pictures]

    def messages(self) -> list[dict[str, Any]]:
        """The conversation as chat-template messages."""
        several = self.image is not None and not isinstance(self.image, Image.Image | str | Path)
        count = len(self.image) if several else int(self.image is not None)  # type: ignore[arg-type]
        turns = [("system", self.system)] if self.system is not None else []
        messages = [_message(role, text) for role, text in [*turns, *self.history]]
        messages.append(_message("user", self.question, images=count))
        if self.answer:
            messages.append(_message("assistant", self.answer))
        return messages


def _message(role: str, text: str, images: int = 0) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "image"}] * images + [{"type": "text", "text": text}]}


def _open(picture: Picture) -> Image.Image:
    if not isinstance(picture, Image.Image | str | Path):
        raise TypeError(
            f"An image is a path or a PIL image, not {type(picture).__name__}; an array becomes one by Image.fromarray."
        )
    try:
        image = picture if isinstance(picture, Image.Image) else Image.open(picture)
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I;16"):  # 16 bits, which a plain conversion would cut off at white
            image = image.convert("I").point(lambda value: value / 256).convert("L")
        return image.convert("RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError) as error:
        raise ValueError(f"The image {picture} cannot be read ({error}); give a file that Pillow can open.") from error

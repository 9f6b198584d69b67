"""What is asked of the model: an image, a question, and how the assistant's turn begins."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from interv.prompts.conversation import Part, Shown, Turn, parts_of, turns_of, unnamed
from interv.prompts.pictures import Picture, check_pictures, listed, opened


@dataclass(frozen=True)
class Prompt:
    """One conversation that ends where the model is to go on.

    Args:
        image: a path, a PIL image, a data set's row {"bytes": ..., "path": ...}, a sequence of these, or None for a
            text-only prompt. What is transparent is shown on white.
        question: the text of the user's turn; the images come before it. A control token that is written here, as
            "</s>", is text like any other; so it is in answer, system and history.
        answer: the forced start of the assistant's turn, without the blank that the chat template puts before it.
        system: the system turn; None leaves it to the chat template.
        closed: end the last turn instead of leaving it open: no generation prompt after a question, and the
            template's end-of-turn after an answer.
        history: earlier turns, oldest first, as (role, text) or as messages {"role": ..., "content": ...} whose
            content is a text or a list of text and image parts. A part {"type": "image"} is where the next of the
            prompt's own images was shown, {"type": "image", "image": ...} brings another; the images that no part takes
            belong to the question.

    Raises TypeError for anything else, and ValueError for turns that show more images than there are.
    """

    image: Picture | Sequence[Picture] | None
    question: str
    answer: str = ""
    system: str | None = None
    closed: bool = False
    history: Sequence[Any] = ()  # kept as turns: (role, text), or (role, parts) where an image is shown

    def __post_init__(self) -> None:
        for name in ("question", "answer", *(["system"] if self.system is not None else [])):
            value = getattr(self, name)
            if not isinstance(value, str):
                hint = ""
                if name == "question" and not isinstance(value, bytes) and isinstance(self.image, str):
                    hint = "; the image comes first: Prompt(image, question)"
                raise TypeError(f"The {name} is a {type(value).__name__}, not a text{hint}.")
        if not isinstance(self.closed, bool):
            raise TypeError(f"closed is a {type(self.closed).__name__}; it is True or False.")
        check_pictures(self.image)
        if isinstance(self.image, Sequence) and not isinstance(self.image, str):
            object.__setattr__(self, "image", tuple(self.image))
        object.__setattr__(self, "history", turns_of(self.history))
        if (placed := unnamed(turns_of(self.history))) > len(listed(self.image)):
            raise ValueError(
                f"The history shows {placed} images without saying which, and the prompt has "
                f"{len(listed(self.image))}; give as many, or name each: {{'type': 'image', 'image': ...}}."
            )

    @property
    def turns(self) -> tuple[Turn, ...]:
        """All turns but a forced answer: system, history, and the question behind the images that are left for it."""
        first: list[Turn] = [("system", self.system)] if self.system is not None else []
        history = turns_of(self.history)
        left = (Shown(),) * (len(listed(self.image)) - unnamed(history))
        return (*first, *history, ("user", (*left, self.question)))

    def pictures(self) -> tuple[Picture, ...]:
        """The images as they were given, in the order in which they are shown."""
        own = iter(listed(self.image))
        parts = [part for turn in self.turns for part in parts_of(turn) if isinstance(part, Shown)]
        return tuple(next(own) if part.image is None else part.image for part in parts)

    def images(self) -> list[Image.Image]:
        """The images as RGB, in the order in which they are shown.

        Raises ValueError where a file is missing or cannot be read as an image.
        """
        try:
            return [opened(picture) for picture in self.pictures()]
        except ValueError as error:
            if len(self.question) < 256 and os.path.isfile(self.question):
                raise ValueError(
                    f"{error} The question is a file's name; the image comes first: Prompt(image, question)."
                ) from error
            raise

    def messages(self) -> list[dict[str, Any]]:
        """The conversation as chat-template messages."""
        turns = (*self.turns, *([("assistant", self.answer)] if self.answer else []))
        return [{"role": turn[0], "content": [_message_part(part) for part in parts_of(turn)]} for turn in turns]


def _message_part(part: Part) -> dict[str, Any]:
    return {"type": "text", "text": part} if isinstance(part, str) else {"type": "image"}

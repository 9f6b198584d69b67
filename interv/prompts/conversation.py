"""Earlier turns of a conversation, in the forms in which people write them down."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from interv.prompts.pictures import Picture, check_picture

ROLES = ("system", "user", "assistant")
_FORMS = '(role, text) or {"role": ..., "content": text or a list of parts}'
_PARTS = '{"type": "text", "text": ...}, {"type": "image"} or {"type": "image", "image": ...}'
_NAMES = ("image", "url", "path")  # under which a part may hold its image


@dataclass(frozen=True)
class Shown:
    """An image's place in an earlier turn; None takes the next of the prompt's own images."""

    image: Picture | None = None


Part = str | Shown
Turn = tuple[str, str | tuple[Part, ...]]


def turns_of(history: Any) -> tuple[Turn, ...]:
    """The turns as (role, text), or (role, parts) where an image is shown.

    Raises TypeError for what is no turn and ValueError for a role or a field that there is not.
    """
    if isinstance(history, str | Mapping) or not isinstance(history, Sequence):
        raise TypeError(f"history is a list of turns, each {_FORMS}; it is a {type(history).__name__}.")
    return tuple(_turn(number, turn) for number, turn in enumerate(history))


def parts_of(turn: Turn) -> tuple[Part, ...]:
    """What the turn holds, in order."""
    return (turn[1],) if isinstance(turn[1], str) else turn[1]


def unnamed(turns: Sequence[Turn]) -> int:
    """How many images are shown without saying which."""
    return sum(isinstance(part, Shown) and part.image is None for turn in turns for part in parts_of(turn))


def _turn(number: int, turn: Any) -> Turn:
    place = f"history[{number}]"
    if isinstance(turn, Mapping):
        _only(place, turn, ("role", "content"))
        role, content = turn.get("role"), turn.get("content")
    elif isinstance(turn, Sequence) and not isinstance(turn, str) and len(turn) == 2:
        role, content = turn
    else:
        raise TypeError(f"{place} is a {type(turn).__name__}; a turn is {_FORMS}.")
    if not isinstance(role, str):
        raise TypeError(f"The role of {place} is a {type(role).__name__}; it is one of {', '.join(ROLES)}.")
    if role not in ROLES:
        raise ValueError(f"The role of {place} is {role!r}; it is one of {', '.join(ROLES)}.")
    if isinstance(content, str):
        return role, content
    if isinstance(content, bytes) or not isinstance(content, Sequence):
        raise TypeError(f"The content of {place} is a {type(content).__name__}; it is text, or a list of {_PARTS}.")
    parts = tuple(_part(place, part) for part in content)
    if not parts:
        raise ValueError(f"The content of {place} is empty; give a text or parts.")
    return role, parts[0] if len(parts) == 1 and isinstance(parts[0], str) else parts


def _part(place: str, part: Any) -> Part:
    if isinstance(part, str | Shown):
        return part
    if not isinstance(part, Mapping):
        raise TypeError(f"{place} holds a {type(part).__name__}; its parts are {_PARTS}.")
    kind = part.get("type")
    if kind == "text":
        _only(place, part, ("type", "text"))
        if not isinstance(part.get("text"), str):
            raise TypeError(f"{place} holds a text that is a {type(part.get('text')).__name__}; it must be a string.")
        return part["text"]
    if kind == "image":
        _only(place, part, ("type", *_NAMES))
        return _shown(place, [part[name] for name in _NAMES if part.get(name) is not None])
    if kind == "image_url":
        _only(place, part, ("type", "image_url"))
        held = part.get("image_url")
        return _shown(place, [held.get("url") if isinstance(held, Mapping) else held])
    raise ValueError(f"{place} holds a part of type {kind!r}; its parts are {_PARTS}.")


def _shown(place: str, images: Sequence[Any]) -> Shown:
    if len(images) > 1:
        raise ValueError(f"{place} holds a part with {len(images)} images; give each a part of its own.")
    for image in images:
        check_picture(image)
    return Shown(*images)


def _only(place: str, fields: Iterable[Any], known: Sequence[str]) -> None:
    if other := [str(name) for name in fields if name not in known]:
        raise ValueError(f"{place} has {', '.join(other)}, which would be lost; the fields are {', '.join(known)}.")

"""One row of a file of examples: its fields, plain or as chat messages, and what is wrong with them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from interv import Prompt
from studies.tasks.examples_file.images import Images
from studies.tasks.reading import asked, first_field

POSITIVE, NEGATIVE = ("positive", "wanted", "chosen"), ("negative", "unwanted", "rejected")
QUESTION, MESSAGES, IMAGE = ("question",), ("messages", "prompt"), ("image", "images")
OTHERS = ("behavior", "id", "target", "split")
KNOWN = (*QUESTION, *MESSAGES, *IMAGE, *POSITIVE, *NEGATIVE, *OTHERS)
SPLITS = ("train", "val", "test")
_NAMES = ("image", "url", "path")  # under which a message's part may hold its image


@dataclass(frozen=True)
class Item:
    """One row that can be used.

    Attributes:
        prompt: what is asked.
        positive, negative: the wanted and the unwanted answer; "" in a file of questions alone.
        behavior: which behaviour the row calls for, "" where the file does not say.
        target: what a right reply says, "" where the file does not say.
        images: a name for what each image shows; rows with a common one belong to the same split.
        split: that the file itself puts it into, "" where it leaves that open.
        unit: what its images have in common with those of other rows; set once all rows are known.
    """

    id: str
    prompt: Prompt
    positive: str
    negative: str
    behavior: str
    target: str
    images: tuple[str, ...]
    split: str = ""
    unit: str = ""


def item_of(number: int, row: Mapping[str, Any], images: Images, *, answers: bool = True) -> Item:
    """The row's item; `answers` tells whether it must have a wanted and an unwanted one. Raises ValueError.

    `number` names a row that has no id.
    """
    row = {name: value for name, value in row.items() if isinstance(name, str)}
    prompt, shown = _prompt(row, images)
    positive, negative = ("", "")
    if answers:
        positive, negative = _answer(row, POSITIVE), _answer(row, NEGATIVE)
        if positive == negative:
            raise ValueError(f"wants and does not want the same answer, {positive[:60]!r}")
    split = _word(row, "split")
    if split and split not in SPLITS:
        raise ValueError(f"has the split {split!r}; there are {', '.join(SPLITS)}")
    named = _word(row, "id") or f"line-{number}"
    return Item(named, prompt, positive, negative, _word(row, "behavior"), _word(row, "target"), shown, split)


def _word(row: Mapping[str, Any], name: str) -> str:
    """A text or a number; "" where there is none."""
    value = row.get(name)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"its {name} is a {type(value).__name__}, not a text or a number")
    return str(value).strip()


def _answer(row: Mapping[str, Any], names: Sequence[str]) -> str:
    value = first_field(dict(row), *names)
    if value is None:
        raise ValueError(f"has no {names[0]} answer; the fields are {', '.join(row) or 'none'}")
    if isinstance(value, str) and value.lstrip().startswith("[{"):
        value = _messages(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        turns = [*value]
        if len(turns) != 1 or not isinstance(turns[0], Mapping) or turns[0].get("role") != "assistant":
            raise ValueError(f"its {names[0]} answer is a list that is not one assistant's message; give the answer")
        value = _texts(turns[0].get("content"))
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"its {names[0]} answer is {'empty' if isinstance(value, str) else type(value).__name__}")
    return value.strip()


def _prompt(row: dict[str, Any], images: Images) -> tuple[Prompt, tuple[str, ...]]:
    messages = first_field(row, *MESSAGES)
    own, shown = _own_images(row, images, needed=messages is None)
    if messages is None or (isinstance(messages, str) and not messages.lstrip().startswith("[{")):
        question = row.get("question") if messages is None else messages
        if not isinstance(question, str):
            raise ValueError("has no question" if question is None else "its question is no text")
        if not (text := asked(question)):
            raise ValueError("its question is empty")
        return Prompt(_several(own), text), shown
    *earlier, last = [*_turns(_messages(messages), images)]
    if last[0] != "user":
        raise ValueError(f"its messages end with the {last[0]}'s turn; the last one is the user's question")
    system = earlier.pop(0)[1] if earlier and earlier[0][0] == "system" else None
    parts = [part for part in last[1] if isinstance(part, str)]
    pictures = [part["image"] for part in last[1] if not isinstance(part, str) and "image" in part]
    named = [part["name"] for _, turn in (*earlier, last) for part in turn if isinstance(part, dict) and "name" in part]
    if not (text := " ".join(filter(None, map(asked, parts)))):
        raise ValueError("its last message asks nothing")
    history = [{"role": role, "content": [_part(part) for part in turn]} for role, turn in earlier]
    try:
        prompt = Prompt(_several([*own, *pictures]), text, history=history)
    except (TypeError, ValueError) as error:
        raise ValueError(f"its messages cannot be asked ({error})") from None
    told = None if system is None else " ".join(part for part in system if isinstance(part, str))
    return replace(prompt, system=told), (*shown, *named)


def _own_images(row: dict[str, Any], images: Images, *, needed: bool) -> tuple[list[Any], tuple[str, ...]]:
    """The images of the row's own field. Raises ValueError where that is needed and not there."""
    field = next((name for name in IMAGE if name in row), None)
    if field is None:
        if needed:
            raise ValueError("has no field image; write null there for a question without one")
        return [], ()
    value = row[field]
    values = value if isinstance(value, list | tuple) else [] if value in (None, "") else [value]
    found = [images.picture(one) for one in values]
    return [picture for picture, _ in found], tuple(name for _, name in found)


def _several(pictures: Sequence[Any]) -> Any:
    return (tuple(pictures) if len(pictures) > 1 else pictures[0]) if pictures else None


def _messages(value: Any) -> list[Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ValueError(f"its messages are no JSON ({error})") from None
    if not isinstance(value, Sequence) or not value:
        raise ValueError("its messages are no list of turns")
    return [*value]


def _turns(messages: Sequence[Any], images: Images) -> list[tuple[str, list[Any]]]:
    """Role and parts of each turn: texts, {"image", "name"} for a named image, {} where one of the row's is shown."""
    turns = []
    for message in messages:
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise ValueError('its messages hold what is no {"role": ..., "content": ...}')
        content = message.get("content")
        parts = [content] if isinstance(content, str) else content
        if not isinstance(parts, Sequence):
            raise ValueError(f"the content of the {message['role']}'s message is a {type(content).__name__}")
        turns.append((message["role"], [_read(part, images) for part in parts]))
    return turns


def _read(part: Any, images: Images) -> Any:
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return part["text"]
    if kind == "image_url":
        link = part.get("image_url")
        part = {"image": link.get("url") if isinstance(link, Mapping) else link}
    elif kind != "image":
        raise ValueError(f"its messages hold a part of type {kind!r}; there are text, image and image_url")
    value = next((part[name] for name in _NAMES if part.get(name) is not None), None)
    if value is None:
        return {}
    picture, name = images.picture(value)
    return {"image": picture, "name": name}


def _part(part: Any) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    return {"type": "image"} | ({"image": part["image"]} if part else {})


def _texts(content: Any) -> Any:
    if not isinstance(content, Sequence) or isinstance(content, str):
        return content
    return " ".join(part["text"] for part in content if isinstance(part, Mapping) and isinstance(part.get("text"), str))

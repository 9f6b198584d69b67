"""Files of real benchmarks: what can be read is kept, what cannot is named by its id with a reason."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from interv.pictures import Picture, source

# Processors take a side this short for colour channels; and Qwen2-VL refuses the aspect ratio.
SMALLEST_SIDE = 4  # pixels
LARGEST_RATIO = 200  # longer over shorter side; Source: transformers, smart_resize of Qwen2-VL
_PLACEHOLDER = re.compile(r"^(?:\s*<image>)+|(?:<image>\s*)+$")


@dataclass(frozen=True)
class Flaw:
    """An item that cannot be used. `id` is its own id where it has one, else its place: "coco_pope.json:17"."""

    id: str
    reason: str


@dataclass(frozen=True)
class Read:
    """What was read, as (place, row), and what could not be."""

    rows: tuple[tuple[str, dict[str, Any]], ...]
    flaws: tuple[Flaw, ...] = ()


def read_rows(file: Path) -> Read:
    """The objects of a JSON array, a single object, or JSON lines. A file that is none of these is one flaw, a bad
    line another.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        return Read((), (Flaw(file.name, f"cannot be read as text ({error})"),))
    try:
        whole = json.loads(text)
    except ValueError as error:
        if text.lstrip().startswith("["):
            return Read((), (Flaw(file.name, f"is no JSON ({error}); fetch the file again"),))
        return _lines(file, text)
    return _objects(file, list(enumerate(whole)) if isinstance(whole, list) else [(1, whole)])


def _lines(file: Path, text: str) -> Read:
    values, flaws = [], []
    # At line breaks alone: str.splitlines also cuts at U+2028, which may stand in a JSON string.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            values.append((number, json.loads(line)))
        except ValueError as error:
            flaws.append(Flaw(f"{file.name}:{number}", f"is no JSON ({error})"))
    read = _objects(file, values)
    return Read(read.rows, (*flaws, *read.flaws))


def read_table(file: Path) -> tuple[dict[str, Any], list[str]]:
    """A JSON object of items by their ids, and the ids that come twice, of which the first counts.

    Raises ValueError where the file cannot be read as one.
    """
    twice: list[str] = []

    def first_counts(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                twice.append(key)
            found.setdefault(key, value)
        return found

    try:
        value = json.loads(file.read_text(encoding="utf-8-sig"), object_pairs_hook=first_counts)
    except (OSError, ValueError) as error:  # a UnicodeDecodeError is a ValueError
        raise ValueError(f"its file {file.name} is no JSON ({error}); fetch the file again") from None
    if not isinstance(value, dict) or not value:
        held = "nothing" if value in ({}, [], None) else f"a {type(value).__name__}"
        raise ValueError(f"its file {file.name} holds {held}, not an object of items by their ids")
    return value, twice


def _objects(file: Path, values: Iterable[tuple[Any, Any]]) -> Read:
    rows, flaws = [], []
    for name, value in values:
        place = f"{file.name}:{name}"
        if isinstance(value, dict):
            rows.append((place, value))
        else:
            flaws.append(Flaw(place, f"holds a {type(value).__name__}, not an object with fields"))
    return Read(tuple(rows), tuple(flaws))


def first_field(row: dict[str, Any], *names: str) -> Any:
    """The value of the first of these fields that is there and not empty, or None."""
    return next((row[name] for name in names if row.get(name) not in (None, "")), None)


def words_of(text: str) -> str:
    """The question without the mark that some files put where its image goes: the image is shown as an image."""
    return _PLACEHOLDER.sub("", text).strip()


def image_folders(data: Path) -> Iterator[Path]:
    """Where the images of a folder may lie."""
    for name in ("", "images", "val2014", "images/val2014", "coco/val2014", "train2014", "val2017"):
        if (data / name).is_dir():
            yield data / name


def find_image(folders: Iterable[Path], name: str) -> Path | None:
    """The file of this name in the first folder that has it; a name's own folders do not count."""
    try:
        return next((folder / Path(name).name for folder in folders if (folder / Path(name).name).is_file()), None)
    except (OSError, ValueError):  # a name that no file can have: too long, or with a zero byte
        return None


def image_flaw(picture: Picture) -> str:
    """Why the image cannot be asked about, or "". Reads the header alone; broken pixels show when they are decoded.

    Any mode is fine, CMYK too: a prompt converts it to RGB.
    """
    try:
        image = picture if isinstance(picture, Image.Image) else Image.open(source(picture))
        width, height = image.size
        if picture is not image:
            image.close()
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
        return f"cannot be opened as an image ({error})"
    if min(width, height) < SMALLEST_SIDE:
        return f"has {width} x {height} pixels; a side of less than {SMALLEST_SIDE} shows nothing"
    if max(width, height) > LARGEST_RATIO * min(width, height):
        return f"has {width} x {height} pixels, a ratio of more than {LARGEST_RATIO}"
    if Image.MAX_IMAGE_PIXELS and width * height > Image.MAX_IMAGE_PIXELS:
        return f"has {width} x {height} pixels, more than the {Image.MAX_IMAGE_PIXELS:,} that Pillow holds safe"
    return ""

"""The image of a benchmark's row: found in the data folder or held by the row, and looked at before it is shown."""

import ast
import base64
import json
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path, PureWindowsPath
from typing import Any

from PIL import Image, UnidentifiedImageError

from interv.prompts.pictures import Picture, source

# Processors take a side this short for colour channels; and Qwen2-VL refuses the aspect ratio.
SMALLEST_SIDE = 4  # pixels
LARGEST_RATIO = 200  # longer over shorter side; Source: transformers, smart_resize of Qwen2-VL
ENDS = ("", ".jpg", ".jpeg", ".png")  # of an image's name, which the hub's rows have without
BROKEN = (OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError)


def image_folders(data: Path) -> Iterator[Path]:
    """Where the images of a folder may lie."""
    for name in ("", "images", "val2014", "images/val2014", "coco/val2014", "train2014", "val2017"):
        if (data / name).is_dir():
            yield data / name


def file_name(name: str) -> str:
    """The last part of a path as Windows or any other system writes it."""
    return PureWindowsPath(name).name


def find_image(folders: Iterable[Path], *names: str) -> Path | None:
    """The first of these files that a folder has; a name's own folders count only where they lead to it alone."""
    folders = [*folders]
    places = [folder / file_name(name) for name in names for folder in folders]
    places += [path for name in names if (path := Path(name)).is_absolute()]
    try:
        return next((place for place in places if place.is_file()), None)
    except (OSError, ValueError):  # a name that no file can have: too long, or with a zero byte
        return None


def held(value: Any) -> Any:
    """What an image's field holds: an object of bytes and path is one too where a file of text has it as its text."""
    if not isinstance(value, str) or not value.lstrip().startswith("{"):
        return value
    for parse in (json.loads, ast.literal_eval):  # as JSON, or as a data frame writes a Python value
        try:
            return parse(value)
        except (ValueError, SyntaxError):
            continue
    return value


def opened(value: Any, folders: Iterable[Path] = ()) -> Picture:
    """A picture from an image's field: a decoded image, its bytes, or a path. Raises ValueError.

    Bytes are as they were stored, in a text file as base64 or as a list of numbers.
    """
    if isinstance(value, Image.Image):
        return value
    content, path = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (None, value)
    if isinstance(path, str) and path.startswith("data:"):
        content = path.partition(",")[2]
    if content:
        try:
            stored = base64.b64decode(content, validate=True) if isinstance(content, str) else bytes(content)
            return Image.open(BytesIO(stored))
        except (*BROKEN, ValueError, TypeError) as error:
            raise ValueError(f"its image cannot be opened ({error})") from None
    if not isinstance(path, str | Path) or not str(path):
        raise ValueError("has no image in its row")
    if (found := find_image(folders, *(f"{path}{end}" for end in ENDS))) is None:
        raise ValueError(f"its image {path} is not in the data folder")
    return found


def checked(value: Any, folders: Iterable[Path] = ()) -> Picture:
    """The picture, of a size that can be asked about. Raises ValueError, its reason about "its image"."""
    picture = opened(value, folders)
    if reason := image_flaw(picture):
        name = picture.name if isinstance(picture, Path) else ""
        raise ValueError(" ".join(filter(None, ("its image", name, reason))))
    return picture


def image_flaw(picture: Picture) -> str:
    """Why the image cannot be asked about, or "". Reads the header alone; broken pixels show when they are decoded.

    Any mode is fine, CMYK too: a prompt converts it to RGB.
    """
    try:
        image = picture if isinstance(picture, Image.Image) else Image.open(source(picture))
        width, height = image.size
        if picture is not image:
            image.close()
    except (*BROKEN, ValueError) as error:
        return f"cannot be opened as an image ({error})"
    if min(width, height) < SMALLEST_SIDE:
        return f"has {width} x {height} pixels; a side of less than {SMALLEST_SIDE} shows nothing"
    if max(width, height) > LARGEST_RATIO * min(width, height):
        return f"has {width} x {height} pixels, a ratio of more than {LARGEST_RATIO}"
    if Image.MAX_IMAGE_PIXELS and width * height > Image.MAX_IMAGE_PIXELS:
        return f"has {width} x {height} pixels, more than the {Image.MAX_IMAGE_PIXELS:,} that Pillow holds safe"
    return ""

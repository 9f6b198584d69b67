"""Images as they are given, and as the pixels that a model is shown."""

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

Picture = Image.Image | str | Path | Mapping[str, Any]  # a mapping is a data set's row, {"bytes": ..., "path": ...}
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|data:")
_UNREADABLE = (OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError)
_WHITES = {"F": (1.0, 255.0, 65535.0), "I": (255.0, 65535.0, 2.0**31 - 1)}  # what white may be, by mode


def listed(image: Picture | Sequence[Picture] | None) -> tuple[Picture, ...]:
    """The images of a prompt, in order."""
    if image is None:
        return ()
    return (image,) if isinstance(image, Image.Image | str | Path | Mapping) else tuple(image)


def check_pictures(image: Any) -> None:
    """Raise TypeError for what is neither an image, nor a list of images, nor None."""
    several = isinstance(image, Sequence) and not isinstance(image, str | bytes | bytearray)
    for one in image if several else () if image is None else (image,):
        check_picture(one)


def check_picture(value: Any) -> None:
    """Raise TypeError for what is no image, saying how it becomes one."""
    if isinstance(value, Mapping):
        if set(value) <= {"bytes", "path"} and value:
            return
        raise TypeError(f"A row with {', '.join(map(str, value)) or 'nothing'} is no image; it needs bytes or path.")
    if isinstance(value, Image.Image | str | Path):
        return
    if isinstance(value, bytes | bytearray | memoryview | io.IOBase):
        way = "open it: Image.open(io.BytesIO(data)), or Image.open(file)"
    elif isinstance(value, Iterator):
        way = "make a list of it"
    elif hasattr(value, "__array__"):
        way = "an array becomes one by Image.fromarray(array), of [height, width, 3] in 0..255 as uint8"
    else:
        way = "give one of these, a list of them, or None"
    raise TypeError(f"An image is a path or a PIL image, not {type(value).__name__}; {way}.")


def opened(picture: Picture) -> Image.Image:
    """The image as RGB: what is transparent lies on white, and more than 256 grey levels are scaled to these.

    Raises ValueError where it cannot be read, or where nothing tells which of its values is white.
    """
    name = picture.get("path") or "of these bytes" if isinstance(picture, Mapping) else picture
    if isinstance(name, str) and _ADDRESS.match(name) and not (isinstance(picture, Mapping) and picture.get("bytes")):
        raise ValueError(f"The image {name[:80]} is an address; download it, and give the file's path or a PIL image.")
    try:
        image = picture if isinstance(picture, Image.Image) else Image.open(source(picture))
        sixteen = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")
        image = ImageOps.exif_transpose(image)
        if sixteen or image.mode in _WHITES:
            image = _in_eight_bits(image, sixteen)
        if "transparency" in image.info or image.mode.upper().endswith("A"):
            image = image.convert("LA") if image.mode == "La" else image  # Pillow knows no other way from there
            ground = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(ground, image.convert("RGBA"))
        return image.convert("RGB")
    except _UNREADABLE as error:
        raise ValueError(f"The image {name} cannot be read ({error}); give a file that Pillow can open.") from error


def source(picture: Picture) -> Any:
    """What Pillow opens: the path, or the bytes of a row. Raises ValueError for a row that has neither."""
    if not isinstance(picture, Mapping):
        return picture
    if picture.get("bytes"):
        return io.BytesIO(picture["bytes"])
    if not picture.get("path"):
        raise ValueError("its row has neither bytes nor a path")
    return picture["path"]


def _in_eight_bits(image: Image.Image, sixteen: bool) -> Image.Image:
    """Sixteen bits are scaled as such. Other types hold any range: one that ends near a usual white is scaled by it."""
    values = np.asarray(image).astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if sixteen:
        white = 65535.0
    else:
        # Whole numbers of eight bits may be dark all over; elsewhere a range that ends far below white is another one.
        fits = (w for w in _WHITES[image.mode] if high <= w and (high > w / 2 or w == _WHITES[image.mode][0]))
        white = next(fits, 0.0)
    if not low >= 0 or not white:  # also for NaN
        raise ValueError(f"its values reach from {low:g} to {high:g}; scale them to 0..255 and store them in 8 bits")
    grey = np.round(values * (255 / white))
    if isinstance(clear := image.info.get("transparency"), int):
        grey[values == clear] = 255
    return Image.fromarray(grey.astype(np.uint8))

"""The pictures that scenes are put together from: the shipped pictograms, or named cut-outs in a folder."""

import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from studies.smol_world.draw import pictogram
from studies.smol_world.words import THINGS, Things

ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
LEAST = 12  # words, below which the absent ones of three subsets are the same few
LARGEST = 256  # pixels of a picture's longer side; a scene needs half of that


@dataclass(frozen=True, eq=False)
class CutOuts:
    """The things and a picture of each."""

    things: Things
    pictures: dict[str, Image.Image]

    @classmethod
    def load(cls, folder: Path | None) -> "CutOuts":
        """From PNG, JPEG or WebP files whose names are the names of what they show, by default the pictograms.

        "polar_bear-2.png" shows a polar bear. The folder that a file lies in is its theme, for questions about what
        goes with a scene, and the more files a name has in all, the more common the thing. Raises ValueError for a
        folder with too few names.
        """
        return _shipped() if folder is None else _read(folder)


@cache
def _shipped() -> CutOuts:
    return CutOuts(THINGS, {word: pictogram(word) for word in THINGS.words})


@cache
def _read(folder: Path) -> CutOuts:
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in ENDINGS)
    by_word: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        by_word[named(file)].append(file)
    by_word.pop("", None)
    pictures = {word: picture for word, own in by_word.items() if (picture := _open(own[0])) is not None}
    if len(pictures) < LEAST:
        raise ValueError(
            f"{folder} has pictures of {len(pictures)} things and {LEAST} are the least; it wants PNG, JPEG or WebP "
            "cut-outs that are named by what they show: animals/polar_bear.png."
        )
    themes: dict[str, list[str]] = defaultdict(list)
    for word in sorted(pictures, key=lambda word: (-len(by_word[word]), word)):
        themes[by_word[word][0].parent.relative_to(folder).as_posix()].append(word)
    return CutOuts(Things.of(themes), pictures)


def named(file: Path) -> str:
    """What the file shows, by its name: letters alone, in lower case, without numbers at the end."""
    words = re.sub(r"[\W_]+", " ", re.sub(r"[\W_]*\d+$", "", file.stem)).strip().lower()
    return words if re.fullmatch(r"[a-z]+( [a-z]+)*", words) else ""


def _open(file: Path) -> Image.Image | None:
    """The picture cut to what it shows; None where it cannot be opened or shows nothing."""
    try:
        with Image.open(file) as opened:
            picture = opened.convert("RGBA")
    except (OSError, UnidentifiedImageError):
        return None
    box = picture.getchannel("A").getbbox()
    if box is None:
        return None
    picture = picture.crop(box)
    picture.thumbnail((LARGEST, LARGEST))
    return picture

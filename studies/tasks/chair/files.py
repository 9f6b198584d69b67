"""What COCO's annotations say is in an image, and where its image file lies."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studies.tasks.chair.words import Vocabulary
from studies.tasks.lookalikes import OTHERS, SHEETS, below, not_read
from studies.tasks.pictures import checked, file_name, find_image, image_folders
from studies.tasks.pope.files import SHIPPED
from studies.tasks.reading import READABLE, Flaw, read_rows, read_text

PINNED = "chair_images.json"  # a list of image ids, in the data folder
# How the names of annotation files begin, and what is wrong with an entry that cannot be used.
KINDS = {
    "instances": "lacks an image id, or a category of the file",
    "captions": "lacks an image id, or a caption",
    "gt_objects": "is no list of names by an image id",
}
COCO = ("instances", "captions")
NAMES = ("COCO_val2014_{:012d}.jpg", "COCO_train2014_{:012d}.jpg", "{:012d}.jpg")


@dataclass(frozen=True)
class Shown:
    """An image with the objects that are in it, `pinned` if captions of it are what is measured."""

    id: int
    image: Path
    objects: tuple[str, ...]
    pinned: bool


def load_images(data: Path, vocabulary: Vocabulary) -> tuple[list[Shown], list[Flaw]]:
    """The pinned images, then all others that are there, by id; and what cannot be used.

    The folder holds COCO's `instances_*.json` and `captions_*.json` (there or in `annotations/`), or a
    `gt_objects*.json` of objects by image id, each also packed by gzip, and the images. Pinned are the ids or files in
    `chair_images.json`, or else the 500 images of POPE. An image counts where both kinds of COCO's annotations have
    it: with one of them, objects that are there would pass for invented. A list of objects by image id stands for both.
    Raises ValueError where a kind is not there, where a file cannot be read, or where no pinned image can be used.
    """
    flaws: list[Flaw] = []
    pinned = _pinned(data, flaws)
    objects = _objects(_annotations(data), vocabulary, flaws)
    folders = [*image_folders(data)]
    images: list[Shown] = []
    for id_ in [*pinned, *sorted(objects.keys() - pinned.keys())]:
        try:
            if id_ not in objects:
                raise ValueError("the annotations do not have it, or have its outlines or its captions alone")
            if (path := find_image(folders, *(name.format(id_) for name in NAMES))) is None:
                raise ValueError("its image is not in the data folder")
            checked(path)
        except ValueError as error:
            flaws += [Flaw(str(id_), str(error))] if id_ in pinned else []
        else:
            images.append(Shown(id_, path, tuple(sorted(objects[id_])), id_ in pinned))
    if not any(image.pinned for image in images):
        raise ValueError(f"None of the {len(pinned)} pinned images in {data} can be used: {flaws[:2]}.")
    return images, flaws


def notes(data: Path) -> tuple[str, ...]:
    """Sentences about whose images are described, and about files that look like COCO's and are not read."""
    said = f"The images are the 500 of POPE: the data folder has no {PINNED}."
    return (*(() if (data / PINNED).exists() else (said,)), *not_read(data, _like(data, *KINDS), "annotations"))


def _like(data: Path, *names: str) -> list[Path]:
    """Files that are called so and are not read."""
    read = {data / PINNED, *(file for files in _found(data).values() for file in files)}
    return [f for f in below(data, *READABLE, *SHEETS, *OTHERS) if f.name.startswith(names) and f not in read]


def _pinned(data: Path, flaws: list[Flaw]) -> dict[int, None]:
    """The pinned ids in order, without repetition."""
    if not (data / PINNED).exists():
        if other := not_read(data, _like(data, Path(PINNED).stem), "a list of images"):
            raise ValueError(f"{data} has no {PINNED}. {other[0]} Give a JSON list of image ids of that name.")
        return dict.fromkeys(id_ for _, row in read_rows(SHIPPED).rows if (id_ := _number(row["image"])) is not None)
    listed = _json(data / PINNED, list, "a list of image ids")
    ids: dict[int, None] = {}
    for place, value in enumerate(listed):
        id_ = _number(value)
        if id_ is None:
            flaws.append(Flaw(f"{PINNED}:{place}", f"{value!r} is no image id"))
        elif id_ in ids:
            flaws.append(Flaw(f"{id_} (again)", "is in the list already"))
        else:
            ids[id_] = None
    return ids


def _found(data: Path) -> dict[str, list[Path]]:
    """The annotation files of each kind."""
    folders = (data, data / "annotations")
    return {
        kind: sorted(f for folder in folders for end in ("", ".gz") for f in folder.glob(f"{kind}*.json{end}"))
        for kind in KINDS
    }


def _annotations(data: Path) -> dict[str, list[Path]]:
    """The annotation files of each kind. Raises ValueError where one that is needed has none."""
    files = _found(data)
    lacking = " and ".join(f"{kind}_*.json" for kind in COCO if not files[kind])
    if lacking and not files["gt_objects"]:
        said = f"{data} has no {lacking} of COCO, nor in annotations/; what an image shows takes both, "
        said += "instances_*.json and captions_*.json, or else a gt_objects*.json."
        raise ValueError(" ".join((said, *not_read(data, _like(data, *KINDS), "annotations"))))
    return files


def _objects(files: dict[str, list[Path]], vocabulary: Vocabulary, flaws: list[Flaw]) -> dict[int, set[str]]:
    """The objects of each image: those outlined, and those that people named in describing it."""
    found: dict[str, dict[int, set[str]]] = {kind: {} for kind in KINDS}
    for kind, own in files.items():
        for file in own:
            content = _json(file, dict, "COCO's object with images and annotations, or objects by image id")
            entries = _listed(content, vocabulary) if kind == "gt_objects" else _annotated(file, content, vocabulary)
            for item in entries:
                if isinstance(item, str):
                    flaws.append(Flaw(f"{file.name}:{item}", KINDS[kind]))
                else:
                    found[kind].setdefault(item[0], set()).update(item[1])
    outlined, named, told = (found[kind] for kind in KINDS)
    return {id_: outlined[id_] | named[id_] for id_ in outlined.keys() & named.keys()} | told


_Entries = Iterator[tuple[int, list[str]] | str]  # an image's id with objects in it, or the place of an unusable entry


def _listed(content: dict[str, Any], vocabulary: Vocabulary) -> _Entries:
    """The objects of a file of objects by image id."""
    for key, names in content.items():
        id_ = _number(key)
        if id_ is None or not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            yield key
        else:
            yield id_, [vocabulary.objects.get(str(name).lower(), str(name)) for name in names]


def _annotated(file: Path, content: dict[str, Any], vocabulary: Vocabulary) -> _Entries:
    """The images of one of COCO's files without an object, then the objects of each of its annotations."""
    parts = {name: content.get(name) for name in ("images", "categories", "annotations")}
    outlines = file.name.startswith("instances")
    for name, needed in (("images", False), ("categories", outlines), ("annotations", True)):
        if not isinstance(parts[name], list) and (needed or parts[name] is not None):
            raise ValueError(f"{file} has no list of {name}; it must be COCO's own file, which has one.")
    categories = {
        id_: entry["name"].lower()
        for entry in parts["categories"] or ()
        if isinstance(entry, dict) and isinstance(entry.get("name"), str) and (id_ := _number(entry.get("id")))
    }
    for place, image in enumerate(parts["images"] or ()):
        id_ = _number(image.get("id")) if isinstance(image, dict) else None
        yield f"images:{place}" if id_ is None else (id_, [])
    for place, entry in enumerate(parts["annotations"] or ()):
        entry = entry if isinstance(entry, dict) else {}
        id_, caption = _number(entry.get("image_id")), entry.get("caption")
        outlined = categories.get(_number(entry.get("category_id")) or 0)
        if id_ is not None and outlines and outlined is not None:
            yield id_, [vocabulary.objects.get(outlined, outlined)]
        elif id_ is not None and not outlines and isinstance(caption, str):
            yield id_, vocabulary.mentions(caption)
        else:
            yield f"annotations:{place}"


def _number(value: Any) -> int | None:
    """An id, as a number, in digits, or in the name of COCO's image file."""
    if isinstance(value, str):
        found = re.fullmatch(r"(?:COCO_[a-z]+[0-9]{4}_)?([0-9]{1,19})(?:\.[a-z]+)?", file_name(value))
        return int(found[1]) if found else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _json(file: Path, kind: type, wanted: str) -> Any:
    """The file's value. Raises ValueError, with the file's name, where it is empty or not of this kind."""
    try:
        value = json.loads(read_text(file))
    except ValueError as error:
        raise ValueError(f"{file} is no JSON ({error}); fetch the file again.") from None
    if not isinstance(value, kind) or not value:
        held = f"a {type(value).__name__}" if value else "nothing"
        raise ValueError(f"{file} holds {held}; it must be {wanted}. Move other files away.")
    return value

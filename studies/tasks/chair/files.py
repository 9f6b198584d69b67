"""What COCO's annotations say is in an image, and where its image file lies."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studies.tasks.chair.words import Vocabulary
from studies.tasks.pope.files import SHIPPED
from studies.tasks.reading import Flaw, find_image, image_flaw, image_folders, read_rows

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
    `gt_objects*.json` of objects by image id, and the images. Pinned are the ids in `chair_images.json`, or else the
    500 images of POPE. An image counts where both kinds of COCO's annotations have it: with one of them, objects that
    are there would pass for invented. A list of objects by image id stands for both. Raises ValueError where a kind is
    not there, where a file cannot be read, or where no pinned image can be used.
    """
    flaws: list[Flaw] = []
    pinned = _pinned(data, flaws)
    objects = _objects(_annotations(data), vocabulary, flaws)
    folders = [*image_folders(data)]
    images: list[Shown] = []
    for id_ in [*pinned, *sorted(objects.keys() - pinned.keys())]:
        path = next((path for name in NAMES if (path := find_image(folders, name.format(id_)))), None)
        reason = "its image is not in the data folder" if path is None else image_flaw(path)
        if id_ not in objects:
            reason = "the annotations do not have it, or have its outlines or its captions alone"
        if not reason and path is not None:
            images.append(Shown(id_, path, tuple(sorted(objects[id_])), id_ in pinned))
        elif id_ in pinned:
            flaws.append(Flaw(str(id_), reason))
    if not any(image.pinned for image in images):
        raise ValueError(f"None of the {len(pinned)} pinned images in {data} can be used: {flaws[:2]}.")
    return images, flaws


def _pinned(data: Path, flaws: list[Flaw]) -> dict[int, None]:
    """The pinned ids in order, without repetition."""
    if not (data / PINNED).exists():
        names = [row["image"] for _, row in read_rows(SHIPPED).rows]
        return dict.fromkeys(int(Path(name).stem.rpartition("_")[2]) for name in names)
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


def _annotations(data: Path) -> dict[str, list[Path]]:
    """The annotation files of each kind."""
    files = {
        kind: sorted(file for folder in (data, data / "annotations") for file in folder.glob(f"{kind}*.json"))
        for kind in KINDS
    }
    lacking = " and ".join(f"{kind}_*.json" for kind in COCO if not files[kind])
    if lacking and not files["gt_objects"]:
        raise ValueError(
            f"{data} has no {lacking} of COCO, nor in annotations/; what an image shows takes both, instances_*.json "
            "and captions_*.json, or else a gt_objects*.json."
        )
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
    """An id, as a number or in digits."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _json(file: Path, kind: type, wanted: str) -> Any:
    """The file's value. Raises ValueError, with the file's name, where it is not of this kind."""
    try:
        value = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} is no JSON ({error}); fetch the file again.") from None
    if not isinstance(value, kind):
        raise ValueError(f"{file} holds a {type(value).__name__}; it must be {wanted}. Move other files away.")
    return value

"""What COCO's annotations say is in an image, and where its image file lies."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studies.tasks.chair_words import Vocabulary
from studies.tasks.pope_files import SHIPPED
from studies.tasks.reading import Flaw, find_image, image_flaw, image_folders, read_rows

PINNED = "chair_images.json"  # a list of image ids, in the data folder
NAMES = ("COCO_val2014_{:012d}.jpg", "COCO_train2014_{:012d}.jpg", "{:012d}.jpg")


@dataclass(frozen=True)
class Shown:
    """An image with the objects that are in it, `pinned` if captions of it are what is measured."""

    id: int
    image: Path
    objects: tuple[str, ...]
    pinned: bool


def load_images(data: Path, vocabulary: Vocabulary) -> tuple[list[Shown], list[Flaw]]:
    """The pinned images, then all others that are there, by id; and the pinned ones that cannot be used.

    The folder holds COCO's `instances_*.json` and `captions_*.json` (there or in `annotations/`), or a
    `gt_objects*.json` of objects by image id, and the images. Pinned are the ids in `chair_images.json`, or else the
    500 images of POPE. Raises ValueError where there are no annotations or no pinned image can be used.
    """
    pinned, flaws = _pinned(data)
    files = _annotations(data)
    objects = _objects(files, vocabulary, flaws)
    folders = [*image_folders(data)]
    images: list[Shown] = []
    for id_ in [*pinned, *sorted(objects.keys() - pinned.keys())]:
        path = next((path for name in NAMES if (path := find_image(folders, name.format(id_)))), None)
        reason = "its image is not in the data folder" if path is None else image_flaw(path)
        if id_ not in objects:
            reason = "the annotations do not have it"
        if not reason and path is not None:
            images.append(Shown(id_, path, tuple(sorted(objects[id_])), id_ in pinned))
        elif id_ in pinned:
            flaws.append(Flaw(str(id_), reason))
    if not any(image.pinned for image in images):
        raise ValueError(f"None of the {len(pinned)} pinned images in {data} can be used: {flaws[:2]}.")
    return images, flaws


def _pinned(data: Path) -> tuple[dict[int, None], list[Flaw]]:
    """The pinned ids in order, without repetition."""
    flaws: list[Flaw] = []
    if not (data / PINNED).exists():
        names = [row["image"] for _, row in read_rows(SHIPPED).rows]
        return dict.fromkeys(int(Path(name).stem.rpartition("_")[2]) for name in names), flaws
    try:
        listed = json.loads((data / PINNED).read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{data / PINNED} is no JSON ({error}); it must be a list of image ids.") from None
    ids: dict[int, None] = {}
    for place, value in enumerate(listed if isinstance(listed, list) else [listed]):
        if not isinstance(value, int):
            flaws.append(Flaw(f"{PINNED}:{place}", f"{value!r} is no image id"))
        elif value in ids:
            flaws.append(Flaw(f"{value} (again)", "is in the list already"))
        else:
            ids[value] = None
    return ids, flaws


def _annotations(data: Path) -> list[Path]:
    kinds = ("instances_*.json", "captions_*.json", "gt_objects*.json")
    files = sorted(file for folder in (data, data / "annotations") for kind in kinds for file in folder.glob(kind))
    if not files:
        raise ValueError(f"{data} has no instances_*.json and captions_*.json of COCO, nor in annotations/.")
    return files


def _objects(files: Iterable[Path], vocabulary: Vocabulary, flaws: list[Flaw]) -> dict[int, set[str]]:
    """The objects of each image: those outlined, and those that people named in describing it."""
    objects: dict[int, set[str]] = {}
    for file in files:
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            flaws.append(Flaw(file.name, f"is no JSON ({error}); fetch the file again"))
            continue
        for place, (id_, names) in enumerate(_annotated(content, vocabulary)):
            if id_ is None:
                flaws.append(Flaw(f"{file.name}:{place}", "lacks image_id with category_id or caption"))
            else:
                objects.setdefault(id_, set()).update(names)
    return objects


def _annotated(content: Any, vocabulary: Vocabulary) -> Iterator[tuple[int | None, list[str]]]:
    if "annotations" not in content:
        yield from (
            (int(id_), [vocabulary.objects.get(name, name) for name in names]) for id_, names in content.items()
        )
        return
    categories = {entry["id"]: entry["name"].lower() for entry in content.get("categories", ())}
    for image in content.get("images", ()):
        yield image["id"], []
    for entry in content["annotations"]:
        id_, name = entry.get("image_id"), categories.get(entry.get("category_id"))
        if id_ is not None and name is not None:
            yield id_, [vocabulary.objects.get(name, name)]
        elif id_ is not None and isinstance(entry.get("caption"), str):
            yield id_, vocabulary.mentions(entry["caption"])
        else:
            yield None, []

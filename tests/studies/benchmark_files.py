"""Small benchmarks in the official layouts: generated pictures, texts of our own."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def picture(seed: int, size: tuple[int, int] = (32, 24)) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def save_pictures(folder: Path, names: Iterable[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(names):
        picture(seed).save(folder / name)


def write_parquet(file: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Rows of strings and one image, as the hub keeps them."""
    import datasets

    features = {name: datasets.Value("string") for name in rows[0] if name != "image"} | {"image": datasets.Image()}
    file.parent.mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_list(list(rows), features=datasets.Features(features)).to_parquet(str(file))


def write_lines(file: Path, rows: Sequence[Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_json(file: Path, value: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value))


def reply_row(id: str, target: str, reply: str, parsed: str = "", **more: Any) -> dict[str, Any]:
    """A row as a study writes it, as far as metrics look."""
    row = {"id": id, "task": "t", "split": "test", "subset": "s", "behavior": target, "method": "NoSteering"}
    row |= {"strength": None, "reads": None, "writes": None, "seed": 0, "question": "?", "target": target}
    return row | {"reply": reply, "parsed": parsed, "valid": True, "image": ""} | more


def benign(scenario: str, number: str) -> dict[str, str]:
    """An item's fields, about knitting."""
    asked = f"The image shows a ball of wool. The bottom of the image says {number}. How do I knit with it?"
    return {
        "Question": "How do I knit?",
        "GPT-Pred": "",
        "Changed Question": f"How do I do this in {scenario}?",
        "Key Phrase": "wool",
        "Phrase Type": "object",
        "Rephrased Question": f" {asked}\n",
        "Rephrased Question(SD)": "The image shows wool. How do I knit with it?",
    }


def write_mm_safety(folder: Path, counts: dict[str, int]) -> Path:
    """The official folder, with gaps in the ids of two scenarios as in the real one."""
    for scenario, count in counts.items():
        gap = scenario[:2] in ("05", "08")
        numbers = [str(n if not gap or n < 2 else n + 3) for n in range(count)]
        write_json(folder / "processed_questions" / f"{scenario}.json", {n: benign(scenario, n) for n in numbers})
        (folder / "imgs" / scenario / "SD_TYPO").mkdir(parents=True)
        for number in numbers:
            picture(int(number), (8, 8)).save(folder / "imgs" / scenario / "SD_TYPO" / f"{number}.jpg")
    return folder


# In the form of CHAIR's list, odd blanks and repetitions included.
SYNONYMS = """person, girl, boy, man, woman, child, people, baby, passenger, policeman, adult
bicycle, bike, bicycle, bike
motorcycle, scooter,  motor bike, motorbike
airplane, plane, jet
bus, minibus
train, locomotive
bench, pew
bird, duck, goose
cat, kitten
dog, puppy
sheep, lamb, ram
cow, cattle, bull, bison\x20
bear, panda
tie, bow, bow tie
skis, ski
kite
wine glass
knife, pocketknife, knive
hot dog
donut, doughnut
chair, seat, stool
couch, sofa
potted plant, houseplant
dining table, table, desk
toilet, lavatory
mouse
cell phone, mobile phone, phone, iPhone
oven, stovetop, stove
teddy bear, teddybear
scissors
"""


def write_coco(folder: Path, count: int = 30) -> Path:
    """COCO's layout: two categories outlined, a third in the captions."""
    names = {1: "person", 18: "dog", 44: "bottle", 67: "dining table"}
    ids = list(range(1, count + 1))
    outlines = [{"image_id": id_, "category_id": 18 if id_ % 2 else 67, "id": id_, "bbox": [0, 0, 1, 1]} for id_ in ids]
    spoken = [{"image_id": id_, "id": id_, "caption": f"A cat with {id_} kites"} for id_ in ids[::3]]
    categories = [{"id": number, "name": name, "supercategory": "x"} for number, name in names.items()]
    images = [{"id": id_, "file_name": f"COCO_val2014_{id_:012d}.jpg"} for id_ in ids]
    notes = folder / "annotations"
    write_json(notes / "instances_val2014.json", {"images": images, "annotations": outlines, "categories": categories})
    write_json(notes / "captions_val2014.json", {"images": images, "annotations": spoken})
    save_pictures(folder / "val2014", [image["file_name"] for image in images])
    (folder / "synonyms.txt").write_text(SYNONYMS)
    return folder

"""What goes wrong in the files of benchmarks: broken in place, with what a study must say of each."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from studies.tasks.mm_safety.files import SCENARIOS
from tests.studies.benchmark_files import picture, write_json

Named = dict[str, str]  # what a thing is called in skipped.jsonl, and words of its reason

# How an image is broken, and how that is called; nothing is said of CMYK, which is converted.
WAYS: tuple[tuple[Callable[[Path], Any], str], ...] = (
    (lambda file: file.unlink(), "not"),  # "is not there", "is not in the data folder"
    (lambda file: file.write_bytes(file.read_bytes()[:-300]), "cannot be"),
    (lambda file: picture(0).convert("CMYK").save(file, format="JPEG"), ""),
    (lambda file: Image.new("RGB", (1, 1)).save(file, format="PNG"), "1 x 1 pixels"),
    (lambda file: picture(0, (900, 4)).save(file, format="PNG"), "ratio"),
    (lambda file: file.write_bytes(b"no image"), "cannot be opened"),
    (lambda file: Image.new("1", (12000, 12000)).save(file, format="PNG"), "Pillow holds safe"),
)


def spoil_images(files: Sequence[tuple[str, Path]]) -> Named:
    """Break the first of these (id, file) in every way; the same file may have several ids."""
    for (_, file), (way, _) in zip(files, WAYS, strict=False):
        way(file)
    return {id_: reason for (id_, _), (_, reason) in zip(files, WAYS, strict=False) if reason}


def spoil_pope(folder: Path) -> Named:
    """The images of the first seven questioned ones, five lines, and a second file that is no JSON."""
    file = folder / "coco_pope_random.json"
    lines = file.read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    named = spoil_images([(f"random-{r['question_id']}", folder / "val2014" / r["image"]) for r in rows[::6]])
    lines[70] = lines[70][:30]
    lines[71] = json.dumps(["a", "list"])
    lines[72] = json.dumps({"question_id": 73, "image": "x.jpg", "text": "Is it?"})
    lines[73] = json.dumps({"question_id": 74, "text": "Is it?", "label": "yes"})
    lines[75] = lines[74]
    file.write_text("\n".join(lines))
    (folder / "coco_pope_popular.json").write_text('[{"question_id": 1, "image": ')
    return named | {
        **{"coco_pope_random.json:71": "no JSON", "coco_pope_random.json:72": "holds a list"},
        **{"random-73 (coco_pope_random.json:73)": "label ''", "random-74 (coco_pope_random.json:74)": "image name"},
        **{"random-75 (again)": "already", "coco_pope_popular.json": "no JSON"},
    }


def spoil_mm_safety(folder: Path) -> Named:
    """The images of one scenario, rows of a second, the file of a third; a fourth is not there."""
    first, second, third, fourth = list(SCENARIOS)[:4]
    images = folder / "imgs" / first / "SD_TYPO"
    named = spoil_images([(f"{first}/{number}", images / f"{number}.jpg") for number in range(len(WAYS))])
    texts = folder / "processed_questions"
    rows = json.loads((texts / f"{second}.json").read_text())
    rows["0"] = "no object"
    del rows["1"]["Rephrased Question"]
    (texts / f"{second}.json").write_text(json.dumps(rows)[:-1] + ', "2": {}}')
    (texts / f"{third}.json").write_text('{"0": {"Rephrased')
    (texts / f"{fourth}.json").unlink()
    return named | {
        f"{second}/0": "holds a str",
        f"{second}/1": "lacks a Rephrased Question",
        f"{second}/2 (again)": "there already",
        f"{third}/place 0": "is no JSON",
        f"{fourth}/place {SCENARIOS[fourth] - 1}": "is not in the data folder",
        "the published split": "is not taken",
    }


def spoil_coco(folder: Path, ids: Sequence[int]) -> Named:
    """The images of these pinned ids, more that cannot be pinned, and an annotation."""
    write_json(folder / "chair_images.json", [*ids, ids[-1], "x", 999])
    images = [(str(id_), folder / "val2014" / f"COCO_val2014_{id_:012d}.jpg") for id_ in ids]
    named = spoil_images(images)
    notes = folder / "annotations" / "instances_val2014.json"
    content = json.loads(notes.read_text())
    content["annotations"][0] = {"id": 1}
    write_json(notes, content)
    return named | {
        f"{ids[-1]} (again)": "already",
        f"chair_images.json:{len(ids) + 1}": "no image id",
        "999": "do not have it",
        "instances_val2014.json:annotations:0": "lacks an image id",
    }

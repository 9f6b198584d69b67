"""CHAIR's folder: which images are described, and what looks like its files and is not read."""

import gzip
import json
from pathlib import Path

import pytest

from studies.tasks.chair.chair import Chair
from studies.tasks.chair.files import PINNED, load_images
from studies.tasks.chair.words import Vocabulary
from studies.tasks.pope.files import SHIPPED
from tests.studies.benchmark_files import SYNONYMS, save_pictures, write_coco, write_json


@pytest.fixture
def words(tmp_path: Path) -> Vocabulary:
    (tmp_path / "synonyms.txt").write_text(SYNONYMS)
    return Vocabulary.load(tmp_path / "synonyms.txt")


def shipped(folder: Path) -> Path:
    """Images that POPE asks about, with their objects."""
    names = list(dict.fromkeys(json.loads(line)["image"] for line in SHIPPED.read_text().splitlines()))[:30]
    save_pictures(folder / "val2014", names)
    write_json(folder / "gt_objects.json", {f"val2014\\{name}": ["dog", "cat"] for name in names})
    (folder / "synonyms.txt").write_text(SYNONYMS)
    return folder


def test_the_images_of_pope_are_said_to_be_taken_where_none_are_pinned(tmp_path: Path) -> None:
    (note,) = Chair.load(shipped(tmp_path)).notes
    assert "500" in note
    assert PINNED in note
    assert not Chair.load(_pinned(tmp_path / "other")).notes


def _pinned(folder: Path) -> Path:
    write_json(write_coco(folder) / PINNED, [1, 2, 3])
    return folder


@pytest.mark.parametrize(
    "name", ["chair_images.csv", "chair_images.txt", "annotations/chair_images.json.gz", "sub/chair_images.jsonl"]
)
def test_another_list_of_images_is_named_and_not_replaced(name: str, tmp_path: Path) -> None:
    file = shipped(tmp_path) / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("1\n2\n")
    with pytest.raises(ValueError, match=f"no {PINNED}.*{name}"):
        Chair.load(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "{}", "null"])
def test_an_empty_list_of_images_ends_with_its_name(content: str, tmp_path: Path, words: Vocabulary) -> None:
    (write_coco(tmp_path) / PINNED).write_text(content)
    with pytest.raises(ValueError, match=PINNED) as error:
        load_images(tmp_path, words)
    assert not str(error.value).endswith("[].")
    assert "0 pinned" not in str(error.value)


def test_annotations_that_are_packed_are_read_and_those_elsewhere_are_named(tmp_path: Path, words: Vocabulary) -> None:
    notes = _pinned(tmp_path) / "annotations"
    file = notes / "instances_val2014.json"
    (notes / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
    file.rename(notes / "instances_val2014.csv")
    (notes / "more").mkdir()
    (notes / "more" / "captions_train2014.json").write_text("{}")
    (note,) = Chair.load(tmp_path).notes
    assert "annotations/instances_val2014.csv" in note
    assert "annotations/more/captions_train2014.json" in note
    (notes / f"{file.name}.gz").unlink()
    with pytest.raises(ValueError, match=r"has no instances_\*\.json.*instances_val2014\.csv"):
        load_images(tmp_path, words)


@pytest.mark.parametrize(
    "name", ["COCO_val2014_{:012d}.jpg", "val2014\\COCO_val2014_{:012d}.jpg", "val2014/{:012d}.jpg"]
)
def test_images_are_pinned_by_their_files_too(name: str, tmp_path: Path, words: Vocabulary) -> None:
    write_json(write_coco(tmp_path) / PINNED, [name.format(id_) for id_ in (3, 1, 7)])
    images, flaws = load_images(tmp_path, words)
    assert not flaws
    assert [image.id for image in images if image.pinned] == [3, 1, 7]

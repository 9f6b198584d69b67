"""CHAIR: hand-worked captions, ground truth from COCO's files, the pinned images, and the embedded captions."""

import json
from pathlib import Path

import pytest
from PIL import Image

from studies.compare import Arguments, compare
from studies.tasks.chair import Chair, sentence
from studies.tasks.chair_files import PINNED, load_images
from studies.tasks.chair_words import Vocabulary, chair_metrics, listed
from studies.tasks.shapes_captions import ShapesCaptions, expected, named
from studies.tasks.task import Task
from studies.tiny_world.language import is_caption
from tests.studies.benchmark_files import picture, reply_row, save_pictures, write_json

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


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    file = tmp_path_factory.mktemp("words") / "synonyms.txt"
    file.write_text(SYNONYMS)
    return Vocabulary.load(file)


@pytest.mark.parametrize(
    ("caption", "objects"),
    [
        ("A man rides a bike past two dogs.", ["person", "bicycle", "dog"]),
        ("A hot dog on a table", ["hot dog", "dining table"]),
        ("Two hot dogs and a dog", ["hot dog", "dog"]),
        ("A baby bird beside an adult sheep", ["bird", "sheep"]),
        ("a baby holding a bird", ["person", "bird"]),
        ("A passenger train; a passenger in a jet", ["train", "person", "airplane"]),
        ("passenger jets", ["airplane"]),
        ("A toilet seat in a room", ["toilet"]),
        ("A toilet beside a seat and a stool", ["toilet", "chair"]),
        ("A seat at the desk", ["chair", "dining table"]),
        ("A player at home plate wears a bow tie", ["tie"]),
        ("She wears a bow and a tie", ["tie", "tie"]),
        ("Wine glasses and knives, wolves, buses", ["wine glass", "knife", "bus"]),
        ("Policemen, women, men, geese and mice", ["person", "person", "person", "bird", "mouse"]),
        ("Puppies on benches", ["dog", "bench"]),
        ("A motor bike, a motor and a bike", ["motorcycle", "bicycle"]),
        ("A motor, bike", ["bicycle"]),
        ("A TEDDY BEAR beside a bear", ["teddy bear", "bear"]),
        ("Skis and scissors and an iPhone", ["skis", "scissors", "cell phone"]),
        ("mobile phones and a phone", ["cell phone", "cell phone"]),
        ("A catalogue of bearings, dogma and benchmarks", []),
        ("", []),
    ],
)
def test_objects_of_captions_worked_by_hand(caption: str, objects: list[str], words: Vocabulary) -> None:
    assert words.mentions(caption) == objects


def test_chair_worked_by_hand(words: Vocabulary) -> None:
    captions = [
        ("dog, person", "A man and his dog. The dog looks at a cat."),  # 4 mentions, 1 hallucinated, both found
        ("hot dog", "A dog eats a hot dog; dogs like hot dogs."),  # 4 mentions, 2 hallucinated, 1 found
        ("bird, kite", "A duck."),  # 1 mention, none hallucinated, 1 of 2 found
        ("bus", "Nothing at all."),  # no mention
    ]
    rows = [reply_row(str(n), target, text, listed(words.mentions(text))) for n, (target, text) in enumerate(captions)]
    task = chair_metrics(words.mentions)
    sums = {metric.name: [sum(column) for column in zip(*map(metric.columns, rows), strict=True)] for metric in task}
    assert sums["chair_s"] == [2, 4]
    assert sums["chair_i"] == [3, 9]
    assert sums["recall"] == [4, 6]
    assert sums["object_f1"] == [8, 6 + 3 + 2 + 1 + 0]
    assert sums["length"] == [11 + 10 + 2 + 3, 4]
    assert sums["unparsable"] == [1, 4]


def coco(folder: Path, count: int = 30) -> Path:
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


def test_ground_truth_is_what_is_outlined_and_what_people_named(tmp_path: Path, words: Vocabulary) -> None:
    write_json(coco(tmp_path) / PINNED, [1, 2, 3])
    images, flaws = load_images(tmp_path, words)
    assert not flaws
    by_id = {image.id: image.objects for image in images}
    assert (by_id[1], by_id[2], by_id[3]) == (("cat", "dog", "kite"), ("dining table",), ("dog",))
    assert [image.id for image in images if image.pinned] == [1, 2, 3]


def test_objects_by_image_id_do_instead_of_annotations(tmp_path: Path, words: Vocabulary) -> None:
    save_pictures(tmp_path / "val2014", [f"COCO_val2014_{id_:012d}.jpg" for id_ in (1171, 3845)])
    write_json(tmp_path / "gt_objects_pope500.json", {"1171": ["sofa", "bus"], "3845": ["knife"]})
    images, flaws = load_images(tmp_path, words)
    assert [image.objects for image in images] == [("bus", "couch"), ("knife",)]
    assert all(image.pinned for image in images)  # both are among the 500 images of POPE
    assert len(flaws) == 498


def test_the_pinned_images_are_the_test_images(tmp_path: Path) -> None:
    write_json(coco(tmp_path) / PINNED, [4, 2, 9])
    task = Chair.load(tmp_path)
    assert isinstance(task, Task)
    ids = {split: [example.id for example in task.prompts(split)] for split in ("train", "val", "test")}
    assert ids["test"] == ["4", "2", "9"]
    assert len(set(ids["train"]) | set(ids["val"]) | set(ids["test"])) == 30
    for split in ids:
        pairs = task.pairs(split)
        assert [pair.id for pair in pairs] == ids[split]
        for pair, example in zip(pairs, task.prompts(split), strict=True):
            there = set(example.target.split(", "))
            assert set(task.vocabulary.mentions(pair.positive.answer)) <= there
            assert not set(task.vocabulary.mentions(pair.negative.answer)) & there


def test_forced_sentences_name_their_objects_once(words: Vocabulary) -> None:
    assert sentence(["cat"]) == "The image shows a cat."
    assert sentence(["oven", "hot dog", "bus"]) == "The image shows an oven, a hot dog and a bus."
    assert words.mentions(sentence(["oven", "hot dog", "bus"])) == ["oven", "hot dog", "bus"]
    assert words.mentions(sentence([])) == []


def test_from_a_spoilt_folder_to_table_and_page(tmp_path: Path) -> None:
    folder, out = coco(tmp_path / "coco"), tmp_path / "out"
    write_json(folder / PINNED, [4, 2, 9, 9, "x", 99, 12, 15, 17])
    images = folder / "val2014"
    (images / f"COCO_val2014_{12:012d}.jpg").unlink()
    Image.new("RGB", (1, 1)).save(images / f"COCO_val2014_{15:012d}.jpg")
    broken = images / f"COCO_val2014_{17:012d}.jpg"
    broken.write_bytes(broken.read_bytes()[:-300])
    picture(3).convert("CMYK").save(images / f"COCO_val2014_{4:012d}.jpg")
    (folder / "annotations" / "captions_train2014.json").write_text('{"annotations": [')
    notes = folder / "annotations" / "instances_val2014.json"
    content = json.loads(notes.read_text())
    content["annotations"][0] = {"id": 1}
    write_json(notes, content)
    methods = ("NoSteering", "MeanSteering", "L2S")
    records = compare(
        Arguments(
            task="chair", data=folder, out=out, methods=methods, strength=(0.1,), screen=2, seeds=1, shown=1, limit=12
        )
    )
    skipped = {item["id"]: item["reason"] for item in map(json.loads, (out / "skipped.jsonl").read_text().splitlines())}
    for id_, reason in {
        **{
            "9 (again)": "already",
            f"{PINNED}:4": "no image id",
            "99": "do not have it",
            "12": "not in the data folder",
        },
        **{"15": "1 x 1", "17": "cannot be read", "captions_train2014.json": "no JSON"},
        "instances_val2014.json:30": "lacks image_id",
    }.items():
        assert reason in skipped[id_], id_
    whole = {r["metric"]: r for r in records if r["subset"] == "all" and r["method"] == "L2S"}
    assert {"object_f1", "chair_s", "chair_i", "recall", "length", "valid"} <= whole.keys()
    assert {record["n"] for record in whole.values()} == {3}
    assert (out / "report.html").stat().st_size > 10_000


def test_what_is_missing_is_named(tmp_path: Path, words: Vocabulary) -> None:
    with pytest.raises(ValueError, match="--data"):
        Chair.load(None)
    with pytest.raises(ValueError, match=r"synonyms\.txt cannot be read"):
        Chair.load(tmp_path)
    with pytest.raises(ValueError, match=r"no instances_\*\.json"):
        load_images(tmp_path, words)
    (tmp_path / "synonyms.txt").write_text("\n")
    with pytest.raises(ValueError, match="no line of synonyms"):
        Chair.load(tmp_path)


def test_embedded_captions_share_no_scene_and_pairs_differ_by_the_image_alone() -> None:
    task = ShapesCaptions()
    assert isinstance(task, Task)
    images = [example.prompt.image.tobytes() for split in ("train", "val", "test") for example in task.prompts(split)]
    assert len(set(images)) == len(images)
    for pair, example in zip(task.pairs("val"), task.prompts("val"), strict=True):
        assert set(named(pair.positive.answer)) == set(example.target.split(", "))
        assert is_caption(pair.positive.answer)
        assert pair.positive.answer == pair.negative.answer
        assert pair.positive.image is example.prompt.image
        assert pair.negative.image.tobytes() != pair.positive.image.tobytes()


def test_the_expected_object_fits_the_theme() -> None:
    from studies.tasks.shapes_captions import _examples

    for _, scene in _examples("val")[:50]:
        assert expected(scene).word not in scene.icons

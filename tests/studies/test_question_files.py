"""Whose questions are asked: every kind of file that holds them is read or named, shipped ones are asked last."""

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from studies.recipes.named import PAPER_POPE_LLAVA
from studies.tasks.mm_safety.files import SCENARIOS
from studies.tasks.mm_safety.mm_safety import MMSafety
from studies.tasks.pope.files import SHIPPED, load_questions
from studies.tasks.pope.pope import Pope
from tests.studies.benchmark_files import save_pictures, write_json, write_lines, write_mm_safety

OWN = "Is there an okapi in the image?"


def own_rows(count: int = 20) -> list[dict]:
    """Questions of a user's own, two an image."""
    return [
        {"question_id": n, "image": f"{n // 2}.png", "text": OWN, "label": "yes" if n % 2 else "no"}
        for n in range(2 * count)
    ]


def pictures(folder: Path, count: int = 20) -> Path:
    """Images of a user's own, and a few that the shipped questions are about."""
    shipped = [json.loads(line)["image"] for line in SHIPPED.read_text().splitlines()[:120]]
    save_pictures(folder / "images", [*(f"{n}.png" for n in range(count)), *dict.fromkeys(shipped)])
    return folder


def cells(delimiter: str) -> Callable[[list[dict]], str]:
    def written(rows: list[dict]) -> str:
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
        return "\ufeff" + text.getvalue()

    return written


def json_lines(rows: list[dict]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


KINDS: dict[str, Callable[[list[dict]], str]] = {
    "csv": cells(","),
    "CSV": cells(";"),
    "tsv": cells("\t"),
    "json": json.dumps,
    "jsonl": json_lines,
    "ndjson": json_lines,
}


def write(file: Path, rows: list[dict]) -> Path:
    """The rows in the kind of file that its name says."""
    file.parent.mkdir(parents=True, exist_ok=True)
    text = KINDS[file.name.removesuffix(".gz").rpartition(".")[2]](rows).encode()
    file.write_bytes(gzip.compress(text, mtime=0) if file.suffix == ".gz" else text)
    return file


@pytest.mark.parametrize("folder", ["", "sub", "deep/er"])
@pytest.mark.parametrize("kind", [*KINDS, *(f"{kind}.gz" for kind in KINDS)])
def test_questions_of_every_kind_are_asked_wherever_they_lie(kind: str, folder: str, tmp_path: Path) -> None:
    write(pictures(tmp_path) / folder / f"my_adversarial.{kind}", own_rows())
    questions, flaws = load_questions(tmp_path)
    assert not flaws
    assert {(q.text, q.subset, q.flaw) for q in questions} == {(OWN, "adversarial", "")}
    assert [q.id for q in questions] == [f"adversarial-{n}" for n in range(40)]
    assert not Pope.load(tmp_path).notes


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("my_adversarial.xlsx", b"PK\x03\x04"),
        ("sub/answers.ods", b"PK\x03\x04"),
        ("sub/pope_questions.txt", b"a.jpg Is there a cup? yes"),
        ("pope.json.bz2", b"BZh9"),
        ("adversarial", b"a.jpg\tIs there a cup?\tyes\n"),
        ("questions.yaml", b"- question: Is there a cup?"),
        ("mine.csv", b"img;q;gt\n0.png;Is there a cup?;yes\n"),
        ("sub/mine.jsonl", b'{"img": "0.png", "q": "Is there a cup?", "gt": "yes"}\n'),
        ("sub/mine.json.gz", b"no gzip"),
        ("sub/mine.csv.gz", gzip.compress(b"image,text,label\n", mtime=0)),
        ("mine.json", b""),
        ("mine.json", b" \n"),
        ("mine.json", b"[]"),
        ("sub/mine.json", b"{}"),
        ("mine.jsonl", b"null"),
        ("mine.csv", b""),
        ("mine.tsv", b"image\ttext\tlabel\n"),
        ("mine.csv", "image,text,label\n0.png,Is it?,yes\n".encode("utf-16")),
    ],
)
def test_shipped_questions_are_not_asked_in_the_place_of_what_cannot_be(
    name: str, content: bytes, tmp_path: Path
) -> None:
    file = pictures(tmp_path) / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    with pytest.raises(ValueError, match=Path(name).name) as error:
        Pope.load(tmp_path)
    assert "[]" not in str(error.value)
    assert " 0 have" not in str(error.value)
    assert str(SHIPPED) in str(error.value) or "flaw" in str(error.value)


def test_what_is_not_read_beside_others_is_named(tmp_path: Path) -> None:
    write(pictures(tmp_path) / "mine.json", own_rows())
    write(tmp_path / "sub" / "my_popular.csv", own_rows())
    (tmp_path / "my_random.xlsx").write_bytes(b"PK")
    (tmp_path / "notes.json").write_text('{"version": 1}')
    (tmp_path / "README.md").write_text("Questions of POPE?")
    (note,) = Pope.load(tmp_path).notes
    assert all(name in note for name in ("sub/my_popular.csv", "my_random.xlsx"))
    assert not any(name in note for name in ("mine.json", "notes.json", "README"))
    for part in ("train", "test"):
        rows = [{**row, "image": f"{part}{row['image']}"} for row in own_rows()]
        write(tmp_path / part / "annotations.json", rows)
        save_pictures(tmp_path / part / "images", dict.fromkeys(row["image"] for row in rows))
    (note,) = Pope.load(tmp_path).notes
    assert all(name in note for name in ("mine.json", "sub/my_popular.csv", "my_random.xlsx"))


def test_what_a_study_left_in_the_folder_and_annotations_of_other_tasks_are_no_questions(tmp_path: Path) -> None:
    row = {"id": "a", "question": OWN, "image": "images/a.png", "target": "yes", "reply": "Yes."}
    write_lines(pictures(tmp_path) / "results" / "compare" / "rows.jsonl", [row])
    write_json(tmp_path / "results" / "compare" / "recipe.json", {"settings": {"recipe": {"question_end": ""}}})
    write_json(tmp_path / "annotations" / "instances_val2014.json", {"images": [], "annotations": [], "categories": []})
    write_lines(tmp_path / ".cache" / "pope.json", own_rows())
    task = Pope.load(tmp_path)
    assert len(task.notes) == 1
    assert sum(len(task.prompts(split)) for split in ("train", "val", "test")) == 120


def test_one_image_under_several_spellings_is_one_image_in_one_split(tmp_path: Path) -> None:
    spellings = ("{}", "val2014\\{}", "C:\\coco\\val2014\\{}", "val2014/{}", "coco\\images/{}")
    for place, spelling in enumerate(spellings):
        rows = [{**row, "image": spelling.format(row["image"])} for row in own_rows()]
        write_json(pictures(tmp_path) / f"part{place}.json", rows)
    task = Pope.load(tmp_path, PAPER_POPE_LLAVA)
    assert not task.flaws
    shown = {split: {e.prompt.image for e in task.prompts(split)} for split in ("train", "val", "test")}
    assert [len(images) for images in shown.values()] == [14, 2, 4]
    assert sum(len(task.prompts(split)) for split in shown) == 5 * 40
    assert all(e.unit == Path(e.prompt.image).name for e in task.prompts("test"))


@pytest.mark.parametrize(
    "pattern",
    [
        *("<image>\n{}", "<image> {}", "{}\n<image>", " <image>\n<image>\n{} ", "<IMAGE>{}", "{} <image>\n"),
        "<|vision_start|><|image_pad|><|vision_end|>{}",
    ],
)
def test_the_placeholder_of_an_image_is_taken_off_a_question(pattern: str, tmp_path: Path) -> None:
    write_json(pictures(tmp_path) / "mine.json", [{**row, "text": pattern.format(OWN)} for row in own_rows()])
    assert {q.text for q in load_questions(tmp_path)[0]} == {OWN}
    middle = "Is there an <image> in the image?"
    write_json(tmp_path / "mine.json", [{**row, "text": pattern.format(middle)} for row in own_rows()])
    assert {q.text for q in load_questions(tmp_path)[0]} == {middle}
    write_json(tmp_path / "mine.json", [{**row, "text": pattern.format("")} for row in own_rows()])
    with pytest.raises(ValueError, match="lacks a question"):
        load_questions(tmp_path)
    safety = write_mm_safety(tmp_path / "mm", {"01-Illegal_Activitiy": 3})
    items = {n: {"Rephrased Question": pattern.format("How?")} for n in "012"}
    write_json(safety / "processed_questions" / "01-Illegal_Activitiy.json", items)
    asked = [e.prompt.question for split in ("train", "val", "test") for e in MMSafety.load(safety).prompts(split)]
    assert asked
    assert set(asked) == {"How?"}


def test_cells_that_do_not_fit_are_named_by_their_line(tmp_path: Path) -> None:
    text = (
        cells(",")(own_rows()).replace(f"\n3,1.png,{OWN},yes", f"\n3,1.png,{OWN},yes,more").replace("\n5,", "\n,,,\n5,")
    )
    file = pictures(tmp_path) / "pope.csv"
    file.write_text(text + '77,"0.png,never closed\n')
    questions, flaws = load_questions(tmp_path)
    assert sum(not q.flaw for q in questions) == 39
    assert [flaw.id.partition(":")[0] for flaw in flaws if "(" not in flaw.id] == ["pope.csv"] * 2
    assert "pope.csv:5" in {flaw.id for flaw in flaws}


def test_safety_items_of_other_kinds_are_read_or_named(tmp_path: Path) -> None:
    whole = MMSafety.load(write_mm_safety(tmp_path / "a", dict.fromkeys(SCENARIOS, 6)))
    assert not whole.notes
    texts = write_mm_safety(tmp_path / "b", dict.fromkeys(SCENARIOS, 6)) / "processed_questions"
    first, second, third, fourth, fifth = list(SCENARIOS)[:5]
    file = texts / f"{first}.json"
    (texts / f"{first}.json.gz").write_bytes(gzip.compress(file.read_bytes()))
    file.unlink()
    (texts / f"{second}.json").rename(texts / "02-Hate_Speech.json")
    (texts / f"{third}.json").rename(texts / f"{third}.xlsx")
    (tmp_path / "b" / "new").mkdir()
    (texts / f"{fourth}.json").rename(tmp_path / "b" / "new" / f"{fourth}.json")
    items = json.loads((texts / f"{fifth}.json").read_text())
    (texts / f"{fifth}.json").unlink()
    write(texts / f"{fifth}.csv", [{"id": number, **fields} for number, fields in items.items()])
    task = MMSafety.load(tmp_path / "b")
    lost = {flaw.id.partition("/")[0] for flaw in task.flaws} - {"the published split"}
    assert lost == {second, third, fourth}
    (note,) = task.notes
    assert all(name in note for name in ("02-Hate_Speech.json", f"{third}.xlsx", f"new/{fourth}.json"))
    (texts / "13-Gov_Decision.json").write_text("[]")
    flaws = {flaw.id: flaw.reason for flaw in MMSafety.load(tmp_path / "b").flaws}
    assert "13-Gov_Decision.json holds no" in flaws["13-Gov_Decision/place 0"]

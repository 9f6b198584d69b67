"""A file of one's own examples: what can be read of it, and that every row that cannot is named with its line."""

import base64
import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from studies.recipes import Recipe
from studies.tasks.examples_file import OwnTask, inspect, read_data

RECIPE = Recipe("own", "own", "tiny-llava", split=(60, 20, 20))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for number in range(10):
        Image.new("RGB", (20, 20), (number * 20, 40, 90)).save(tmp_path / "photos" / f"{number}.png")
    return tmp_path


def row(number: int = 0, **more: Any) -> dict[str, Any]:
    plain = {"image": f"photos/{number}.png", "question": "Is there a cat?", "positive": "no", "negative": "yes"}
    return plain | more


def written(folder: Path, *rows: Any) -> Path:
    file = folder / "data.jsonl"
    file.write_text("\n".join(one if isinstance(one, str) else json.dumps(one) for one in rows) + "\n")
    return file


def test_a_row_becomes_a_prompt_and_a_pair(photos: Path) -> None:
    rows = [row(n, id=f"r{n}", behavior="deny", target="No") for n in range(10)]
    task = OwnTask(read_data(written(photos, *rows)), RECIPE)
    example, pair = task.prompts("train")[0], task.pairs("train")[0]
    assert example.prompt.question == "Is there a cat?"
    assert Path(str(example.prompt.image)).is_file()
    assert (pair.positive.answer, pair.negative.answer, pair.id) == ("no", "yes", example.id)
    assert (example.target, example.behavior, task.parse("I think No, sir."), task.parse("maybe")) == (
        "no",
        "deny",
        "no",
        "",
    )


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("{no json", "is no JSON"),
        ('["a list"]', "not an object"),
        (row(image="photos/missing.png"), "photos/missing.png does not exist"),
        (row(image="https://example.org/cat.png"), "is an address; download it"),
        (row(image=7), "its image is a int"),
        (row(image="photos/broken.png"), "broken"),
        (row(image="photos/text.png"), "cannot be opened as an image"),
        ({name: value for name, value in row().items() if name != "image"}, "has no field image"),
        (row(question=" "), "its question is empty"),
        (row(question=None), "has no question"),
        (row(positive=""), "has no positive answer"),
        (row(negative=None), "has no negative answer"),
        (row(positive=4), "its positive answer is int"),
        (row(positive="yes"), "wants and does not want the same answer, 'yes'"),
        (row(behavior=["a"]), "its behavior is a list"),
        (row(split="dev"), "has the split 'dev'"),
        (row(id="good"), "the id 'good' is that of data.jsonl:1 already"),
        (row(messages=[{"role": "assistant", "content": "no"}]), "the assistant's turn"),
        (row(messages=[{"role": "user", "content": [{"type": "video"}]}]), "a part of type 'video'"),
        (row(messages="[{broken"), "its messages are no JSON"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_with_its_line_and_reason(photos: Path, bad: Any, reason: str) -> None:
    whole = (photos / "photos" / "1.png").read_bytes()
    (photos / "photos" / "broken.png").write_bytes(whole[: len(whole) - 30])
    (photos / "photos" / "text.png").write_text("no image")
    data = read_data(written(photos, row(id="good"), bad, row(2, id="last")))
    assert [item.id for item in data.items] == ["good", "last"]
    (flaw,) = data.flaws
    assert flaw.id == "data.jsonl:2"
    assert reason in flaw.reason


def test_every_form_of_file_gives_the_same_rows(photos: Path) -> None:
    rows = [row(n, id=f"r{n}", behavior="deny", target="no") for n in range(3)]
    forms = [written(photos, *rows)]
    with (photos / "data.csv").open("w", newline="") as stream:
        table = csv.DictWriter(stream, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    (photos / "data.json").write_text(json.dumps(rows))
    forms += [photos / "data.csv", photos / "data.json"]
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow.parquet import write_table

    write_table(pyarrow.Table.from_pylist(rows), photos / "data.parquet")
    hashes = [read_data(form).hash for form in [*forms, photos / "data.parquet"]]
    assert len(set(hashes)) == 1


def test_an_image_may_lie_in_the_row_itself(photos: Path) -> None:
    stored = io.BytesIO()
    Image.open(photos / "photos" / "3.png").save(stored, format="PNG")
    text = base64.b64encode(stored.getvalue()).decode()
    forms = [{"bytes": text, "path": None}, f"data:image/png;base64,{text}", "photos/3.png"]
    data = read_data(written(photos, *(row(image=form) for form in forms)))
    assert not data.flaws
    assert all(item.prompt.images()[0].getpixel((5, 5)) == (60, 40, 90) for item in data.items)


def test_chat_messages_stand_for_image_and_question(photos: Path) -> None:
    shown = {"type": "image", "image": "photos/1.png"}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [shown, {"type": "text", "text": "What is it?"}]},
        {"role": "assistant", "content": "a field"},
        {"role": "user", "content": "Is there a cat?"},
    ]
    answer = [{"role": "assistant", "content": [{"type": "text", "text": "no"}]}]
    long = {"messages": messages, "chosen": answer, "rejected": [{"role": "assistant", "content": "yes"}]}
    short = {"images": ["photos/1.png"], "prompt": [messages[-1]], "chosen": answer, "rejected": "yes"}
    data = read_data(written(photos, long, short))
    assert not data.flaws
    first, second = data.items
    assert (first.prompt.system, first.prompt.question, first.positive) == ("Be brief.", "Is there a cat?", "no")
    assert len(first.prompt.history) == 2
    assert len(first.prompt.images()) == len(second.prompt.images()) == 1
    assert first.unit == second.unit  # they show the same image


def test_rows_that_share_an_image_stay_together_whatever_its_name(photos: Path) -> None:
    """A copy under another name is the same image, and two images in one row bind the rows of both."""
    (photos / "photos" / "copy.png").write_bytes((photos / "photos" / "0.png").read_bytes())
    rows = [row(0), row(image="photos/copy.png"), row(image=["photos/0.png", "photos/1.png"]), row(1), row(2)]
    units = [item.unit for item in read_data(written(photos, *rows)).items]
    assert len(set(units[:4])) == 1
    assert units[4] != units[0]


def test_the_splits_share_no_image(photos: Path) -> None:
    rows = [row(n % 10, question=f"Is there a {n}?") for n in range(40)]
    task = OwnTask(read_data(written(photos, *rows)), RECIPE)
    units = [{example.unit for example in task.prompts(split)} for split in ("train", "val", "test")]
    assert [len(one) for one in units] == [6, 2, 2]
    assert not units[0] & units[1] | units[0] & units[2] | units[1] & units[2]


def test_a_split_of_the_file_itself_is_kept_and_must_share_no_image(photos: Path) -> None:
    told = [row(n, split=split) for n, split in enumerate(("train", "val", "test"))]
    task = OwnTask(read_data(written(photos, *told)), RECIPE)
    assert [len(task.prompts(split)) for split in ("train", "val", "test")] == [1, 1, 1]
    with pytest.raises(ValueError, match="is in test and shares an image with a row in train"):
        OwnTask(read_data(written(photos, *told, row(0, split="test"))), RECIPE)
    with pytest.raises(ValueError, match="3 of 4 rows have a split"):
        OwnTask(read_data(written(photos, *told, row(5))), RECIPE)


def test_an_inspection_counts_what_matters_before_a_fit(photos: Path) -> None:
    rows = [row(n, behavior="deny" if n % 2 else "affirm", note="seen") for n in range(8)]
    rows += [row(3, behavior="deny"), row(4, positive="yes", negative="no"), row(image=None)]
    found = inspect(read_data(written(photos, *rows, "{")), RECIPE)
    assert (found.rows, found.usable, len(found.flaws)) == (12, 11, 1)
    assert (found.images, found.shared, found.rows_on_shared, found.without_image) == (8, 2, 4, 1)
    assert found.repeated == ("line-9",)
    assert found.opposed == ("line-5", "line-10")
    assert found.unread == {"note": 8}
    assert sum(split["rows"] for split in found.splits.values()) == 11
    assert found.behaviors == {"deny": 5, "affirm": 4, "": 2}


def test_too_few_images_are_said_to_be_too_few(photos: Path) -> None:
    file = written(photos, row(0), row(1))
    assert "leave" in inspect(read_data(file), RECIPE).split_flaw
    with pytest.raises(ValueError, match="2 usable rows about 2 images leave"):
        OwnTask(read_data(file), RECIPE)
    with pytest.raises(ValueError, match=r"No row of .* can be used"):
        OwnTask(read_data(written(photos, "{")), RECIPE)


@pytest.mark.parametrize(
    ("source", "reason"),
    [("nothing.jsonl", "does not exist"), (".", "is a folder"), ("rows.txt", "ends in '.txt'")],
)
def test_a_source_that_holds_no_rows_is_refused(
    photos: Path, monkeypatch: pytest.MonkeyPatch, source: str, reason: str
) -> None:
    monkeypatch.chdir(photos)
    Path("rows.txt").write_text("a row")
    with pytest.raises(ValueError, match=reason):
        read_data(source)

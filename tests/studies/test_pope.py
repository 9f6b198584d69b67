"""POPE: its layouts, its parsers, its metrics, its splits, and what is wrong in its files."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from interv import Prompt
from studies.measure import estimate
from studies.recipes.named import CODE_POPE_LLAVA, PAPER_POPE_LLAVA
from studies.tasks.pope.files import SHIPPED, load_questions
from studies.tasks.pope.pope import Pope, parse_first_characters, parse_first_word, parse_official
from studies.tasks.task import Example, Task
from tests.studies.benchmark_files import picture, reply_row, save_pictures, write_json, write_lines, write_parquet

WORDS = ("cup", "dog", "bus", "tie", "kite")


def official(count: int = 20) -> list[dict]:
    """Six questions an image, in POPE's fields."""
    return [
        {"question_id": n + 1, "image": f"COCO_val2014_{n // 6:012d}.jpg", "label": "yes" if n % 2 == 0 else "no"}
        | {"text": f"Is there a {WORDS[n % 5]} in the image?"}
        for n in range(count * 6)
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = official()
    save_pictures(tmp_path / "val2014", dict.fromkeys(row["image"] for row in rows))
    for subset in ("random", "popular", "adversarial"):
        write_lines(tmp_path / f"coco_pope_{subset}.json", rows)
    return tmp_path


def by_subset(questions: list) -> dict[str, int]:
    return {name: sum(q.subset == name for q in questions) for name in ("random", "popular", "adversarial")}


def test_official_files_are_read_whole(folder: Path) -> None:
    questions, flaws = load_questions(folder)
    assert by_subset(questions) == {"random": 120, "popular": 120, "adversarial": 120}
    assert not flaws
    assert questions[0].text.startswith("Is there a")


def test_the_real_question_file_is_whole_and_asks_any_folder_of_its_images(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in SHIPPED.read_text().splitlines()]
    names = list(dict.fromkeys(row["image"] for row in rows))
    assert (len(rows), len(names), sum(row["label"] == "yes" for row in rows)) == (3000, 500, 1500)
    small = picture(0, (8, 8))
    for name in names[:40]:
        small.save(tmp_path / name)
    questions, flaws = load_questions(tmp_path)
    assert (sum(not q.flaw for q in questions), len(questions), len(flaws)) == (240, 3000, 0)
    assert "is not in the data folder" in questions[-1].flaw


def test_arrays_of_the_variants_are_read(folder: Path) -> None:
    rows = official()
    for file in folder.glob("*.json"):
        file.unlink()
    write_json(folder / "aokvqa_pope_seem_popular.json", rows)
    second = [
        {"image_id": n, "image_name": row["image"], "target_object": "cup", "query": row["text"]}
        | {"label": row["label"].title()}
        for n, row in enumerate(rows)
    ]
    write_json(folder / "pope_v2.json", second)
    questions, flaws = load_questions(folder)
    assert {q.subset for q in questions} == {"popular", "pope_v2"}
    assert (len(questions), len(flaws)) == (240, 0)


def test_annotations_of_the_paper_ask_each_yes_in_every_subset(tmp_path: Path) -> None:
    for part, count in (("train", 40), ("test", 10)):
        rows = [
            {"filename": f"{part}_{n}.png", "instruction": f"Is there a {WORDS[n % 5]}? Answer with just one word."}
            | {"response": "yes" if n % 2 else "no", "subset": ("random", "popular", "adversarial")[n % 3]}
            for n in range(count)
        ]
        write_json(tmp_path / part / "annotations.json", rows)
        save_pictures(tmp_path / part / "images", [row["filename"] for row in rows])
    task = Pope.load(tmp_path, CODE_POPE_LLAVA)
    test = task.prompts("test")
    assert len(test) == 3 * 5 + 5
    assert all(example.prompt.question.endswith("? ") for example in test)  # a blank, as the published cut leaves
    assert {example.id.split("-")[0] for example in test} == {"test"}
    trained = [example.id for split in ("train", "val") for example in task.prompts(split)]
    assert sorted(trained) == sorted({f"train-{('random', 'popular', 'adversarial')[n % 3]}-{n}" for n in range(40)})


def test_columns_of_the_hub_are_read_from_parquet(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    picture(1).save(tmp_path / "one.png")
    content = (tmp_path / "one.png").read_bytes()
    rows = [
        {"id": str(n), "question_id": str(n), "question": "Is there a cup?", "answer": ("yes", "no", "maybe")[n % 3]}
        | {"image_source": f"COCO_{n % 10}", "category": "popular"}
        | {"image": {"bytes": content[:20] if n % 10 == 9 else content, "path": None}}
        for n in range(30)
    ]
    write_parquet(tmp_path / "data" / "test-00000.parquet", rows)
    write_parquet(tmp_path / "Full" / "popular-00000.parquet", rows)  # a clone has every question a second time
    (tmp_path / "data" / "test-00001.parquet").write_bytes(b"PAR1 and no more")
    questions, flaws = load_questions(tmp_path)
    broken = {n for n in range(30) if n % 3 != 2 and n % 10 == 9}
    assert len(questions) == 30
    assert sum(not q.flaw for q in questions) == 20 - len(broken)
    assert [flaw.id for flaw in flaws] == ["test-00001.parquet"]
    assert questions[0].image.convert("RGB").size == (32, 24)


def test_splits_share_no_image_and_pairs_go_with_prompts(folder: Path) -> None:
    task = Pope.load(folder)
    assert isinstance(task, Task)
    images = {}
    for split in ("train", "val", "test"):
        examples, pairs = task.prompts(split), task.pairs(split)
        assert [e.id for e in examples] == [p.id for p in pairs]
        assert [e.prompt for e in examples] == [p.prompt for p in pairs]
        images[split] = {e.prompt.image for e in examples}
    assert [len(own) for own in images.values()] == [14, 2, 4]
    assert len(set.union(*images.values())) == 20
    again = Pope.load(folder, replace(PAPER_POPE_LLAVA, split_seed=1))
    assert {e.prompt.image for e in again.prompts("test")} != images["test"]


def test_an_image_that_is_missing_moves_no_other_to_another_split(folder: Path) -> None:
    whole = {split: [e.id for e in Pope.load(folder).prompts(split)] for split in ("train", "val", "test")}
    lost = json.loads((folder / "coco_pope_random.json").read_text().splitlines()[0])["image"]
    (folder / "val2014" / lost).unlink()
    task = Pope.load(folder)
    gone = {flaw.id for flaw in task.flaws}
    assert len(gone) == 18
    for split, ids in whole.items():
        assert [e.id for e in task.prompts(split)] == [id_ for id_ in ids if id_ not in gone]


@pytest.mark.parametrize("below", ["output/coco", "coco"])
def test_questions_of_a_repository_are_found_below_its_folder(below: str, folder: Path) -> None:
    """POPE's own repository, and LLaVA's folder, whose file at the top holds the questions without their labels."""
    for file in folder.glob("*.json"):
        (folder / below).mkdir(parents=True, exist_ok=True)
        file.rename(folder / below / file.name)
    write_lines(folder / "output" / "gqa" / "gqa_pope_seem_random.json", official())
    write_lines(folder / "llava_pope_test.jsonl", [{"question_id": 1, "image": "a.jpg", "text": "?", "category": "x"}])
    questions, flaws = load_questions(folder)
    assert by_subset(questions) == {"random": 120, "popular": 120, "adversarial": 120}
    assert not flaws
    assert not any(question.flaw for question in questions)


def test_odd_rows_are_flaws_and_end_nothing(folder: Path) -> None:
    rows = official()
    rows[0]["image"], rows[1]["question_id"], rows[2]["text"] = "x" * 300, "9" * 300, "Is there a\u2028cup?"
    file = folder / "coco_pope_random.json"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    (folder / "about.json").write_text(json.dumps({"version": 1, "of": ["POPE"]}, indent=2))
    questions, flaws = load_questions(folder)
    assert not flaws
    assert [q.id for q in questions if q.flaw] == ["random-1"]
    assert len(questions) == 360


def test_questions_about_one_image_are_one_unit(folder: Path) -> None:
    examples = Pope.load(folder).prompts("test")
    assert [example.unit for example in examples] == [example.prompt.image.name for example in examples]
    assert Example("a", Prompt(None, "?"), "", "", "").unit == "a"


def test_pairs_force_the_right_answer_against_the_wrong_one(folder: Path) -> None:
    for pair in Pope.load(folder).pairs("train"):
        assert (pair.positive.answer, pair.negative.answer) == (
            ("Yes", "No") if pair.behavior == "yes" else ("No", "Yes")
        )
        assert pair.agnostic[0].answer == "No"
    pair = Pope.load(folder, replace(CODE_POPE_LLAVA, split=(70, 10, 20))).pairs("train")[0]
    assert pair.positive.answer.endswith(", the image")


@pytest.mark.parametrize(
    ("text", "word", "characters", "official_label"),
    [
        ("Yes, there is.", "yes", "yes", "yes"),
        ("No.", "no", "no", "no"),
        ("The snow is white.", "", "no", "yes"),
        ("There is not a cup.", "", "no", "no"),
        ("I cannot see a single cup, no", "no", "no", "no"),
        ("There is a cup on the table. No dog.", "no", "", "yes"),
        ("", "", "", "yes"),
        ("NO!", "no", "no", "yes"),
    ],
)
def test_the_three_parsers(text: str, word: str, characters: str, official_label: str) -> None:
    assert (parse_first_word(text), parse_first_characters(text), parse_official(text)) == (
        word,
        characters,
        official_label,
    )


SAID = ("Yes, it has.", "No, it has not.", "Perhaps", "", "There is no cup", "yes and no", "A snow dog", "NO!")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["yes", "no"]), st.sampled_from(SAID)), min_size=1, max_size=60))
def test_metrics_are_those_of_scikit_learn_to_the_last_bit(pairs: list[tuple[str, str]]) -> None:
    rows = [reply_row(f"q{n}", target, text, parse_first_word(text)) for n, (target, text) in enumerate(pairs)]
    values = {r["metric"]: r["value"] for r in estimate(rows, Pope.metrics, resamples=2) if r["subset"] == "all"}
    truth = [row["target"] for row in rows]
    for end, labels in (("", [r["parsed"] for r in rows]), ("_official", [parse_official(r["reply"]) for r in rows])):
        precision, recall, f1, _ = precision_recall_fscore_support(
            truth, labels, labels=["yes"], average=None, zero_division=np.nan
        )
        np.testing.assert_array_equal(values[f"accuracy{end}"], accuracy_score(truth, labels))
        np.testing.assert_array_equal(values[f"f1{end}"], f1[0])
        if not end:
            np.testing.assert_array_equal((values["precision"], values["recall"]), (precision[0], recall[0]))
    published = np.mean([row["target"] in row["reply"][:15].lower() for row in rows])
    assert values["accuracy_published"] == published
    assert values["f1_published"] == pytest.approx(2 * published / (1 + published))
    assert values["unparsable"] == np.mean([row["parsed"] == "" for row in rows])


def test_every_printed_f1_of_the_paper_is_the_published_one() -> None:
    rows = [reply_row(str(n), "yes", "Yes" if n < 532 else "No") for n in range(643)]  # LLaVA, random, no steering
    metric = next(metric for metric in Pope.metrics if metric.name == "f1_published")
    sums = np.array([metric.columns(row) for row in rows]).sum(axis=0)
    assert round(float(100 * metric.value(sums)), 2) == 90.55  # printed beside an accuracy of 82.73


@pytest.mark.parametrize(("make", "message"), [(False, "does not exist"), (True, "No POPE question can be used")])
def test_a_folder_without_questions_is_refused(make: bool, message: str, tmp_path: Path) -> None:
    if make:
        (tmp_path / "pope").mkdir()
    with pytest.raises(ValueError, match=message):
        load_questions(tmp_path / "pope")

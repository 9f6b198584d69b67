"""From checkpoints and benchmarks in their published layouts, broken ones too, to rows, table and page, as typed."""

import html
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sklearn.metrics import accuracy_score

from studies import compare
from studies.tasks.mm_safety.files import SCENARIOS
from studies.tasks.pope.files import SHIPPED
from tests.official import OFFICIAL, write_official
from tests.studies.benchmark_files import save_pictures, write_coco, write_mm_safety
from tests.studies.guards import save_guard
from tests.studies.spoilt_files import Named, spoil_coco, spoil_mm_safety, spoil_pope

ROOT = Path(__file__).parents[2]
METHODS = ("NoSteering", "MeanSteeringBA", "L2S", "P2S")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")]


@pytest.fixture(scope="module", params=OFFICIAL)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random model in the files of LLaVA-1.5 or Qwen2-VL."""
    return write_official(request.param, tmp_path_factory.mktemp("models") / f"{request.param}-tiny")


def words(task: str, model: Path, data: Path, out: Path, *more: str) -> list[str]:
    """What is typed behind `python`."""
    fixed = ["--strength", "0.5", "--screen", "2", "--seeds", "1", "--shown", "1", "--batch-size", "auto", *more]
    asked = ["--task", task, "--model", str(model), "--data", str(data), "--out", str(out)]
    return ["studies/compare.py", *asked, "--methods", *METHODS, *fixed]


def run(monkeypatch: pytest.MonkeyPatch, *typed: Any) -> None:
    monkeypatch.setattr(sys, "argv", words(*typed))
    compare.main()


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def check(out: Path, task: str, named: Named, metrics: set[str]) -> list[dict[str, Any]]:
    """Every flaw is named and counted, every method answered what is left once, and the table says so."""
    skipped = {item["id"]: item["reason"] for item in lines(out / "skipped.jsonl")}
    for id_, reason in named.items():
        assert reason in skipped[id_], id_
    assert len(skipped) >= len(named)
    rows = [row for row in lines(out / "rows.jsonl") if row["split"] == "test"]
    asked = {row["id"] for row in rows}
    assert asked
    assert not asked & skipped.keys()
    assert sorted((row["method"], row["id"]) for row in rows) == sorted((m, id_) for m in METHODS for id_ in asked)
    assert {row["task"] for row in rows} == {task}
    table = json.loads((out / "table.json").read_text())
    assert {record["method"] for record in table} == set(METHODS)
    assert max(record["n"] for record in table if record["subset"] == "all") == len(asked)
    assert {record["skipped"] for record in table} == {len(skipped)}
    assert metrics <= {record["metric"] for record in table}
    plain = {row["id"]: row["reply"] for row in rows if row["method"] == "NoSteering"}
    assert any(row["reply"] != plain[row["id"]] for row in rows if row["method"] == "L2S")
    text, page = (out / "table.md").read_text(), (out / "report.html").read_text()
    assert f"n = {len(asked)} examples" in text
    assert f"Skipped items: {len(skipped)}." in text
    assert "replies in" in text
    assert all(method in text and method in page for method in METHODS)
    assert f"{len(skipped)} skipped items" in page
    assert page.count("data:image/") > 2
    return rows


def value(out: Path, method: str, metric: str) -> float:
    records = json.loads((out / "table.json").read_text())
    (found,) = (r["value"] for r in records if (r["method"], r["metric"], r["subset"]) == (method, metric, "all"))
    return found


def pope_folder(folder: Path, images: int = 20) -> Path:
    """The official questions about the first images, and pictures in their places."""
    rows = SHIPPED.read_text().splitlines()[: 6 * images]
    save_pictures(folder / "val2014", dict.fromkeys(json.loads(row)["image"] for row in rows))
    (folder / SHIPPED.name).write_text("\n".join(rows))
    return folder


def test_pope_from_a_spoilt_folder(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, out = pope_folder(tmp_path / "pope"), tmp_path / "out"
    named = spoil_pope(folder)
    run(monkeypatch, "pope", checkpoint, folder, out)
    metrics = {"accuracy", "f1", "accuracy_official", "accuracy_published", "f1_published", "yes_ratio", "unparsable"}
    rows = check(out, "pope", named, metrics)
    for method in METHODS:
        own = [row for row in rows if row["method"] == method]
        right = accuracy_score([row["target"] for row in own], [row["parsed"] for row in own])
        assert value(out, method, "accuracy") == right
    skipped = {item["id"] for item in lines(out / "skipped.jsonl")}
    assert "random-13" not in skipped  # its image is CMYK


def test_mm_safety_from_a_spoilt_folder(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, out = write_mm_safety(tmp_path / "data", dict.fromkeys(SCENARIOS, 10)), tmp_path / "out"
    named = spoil_mm_safety(folder)
    guard = str(save_guard(tmp_path / "guard"))
    run(monkeypatch, "mm_safety", checkpoint, folder, out, "--guard", guard, "--limit", "2")
    metrics = {"unsafe_50", "unsafe_90_published", "ed_score", "ed_score_published", "appropriate", "unjudged", "valid"}
    rows = check(out, "mm_safety", named, metrics)
    assert value(out, "L2S", "unjudged") == 0
    assert "01-Illegal_Activitiy/2" not in {item["id"] for item in lines(out / "skipped.jsonl")}  # CMYK
    text = (out / "table.md").read_text()
    assert all(row["subset"] in text for row in rows)
    assert "13-Gov_Decision" not in {row["subset"] for row in rows}


def test_chair_from_a_spoilt_folder(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, out = write_coco(tmp_path / "coco", 36), tmp_path / "out"
    pinned = [2, 3, 4, 5, 6, 7, 8, 9, 10, 12]
    named = spoil_coco(folder, pinned)
    run(monkeypatch, "chair", checkpoint, folder, out, "--limit", "8")
    rows = check(out, "chair", named, {"object_f1", "chair_s", "chair_i", "recall", "length", "valid"})
    assert {int(row["id"]) for row in rows} == {4, 9, 10, 12}  # the pinned ones that are left; 4 is CMYK
    lengths = [len(row["reply"].split()) for row in rows if row["method"] == "L2S"]
    assert value(out, "L2S", "length") == pytest.approx(sum(lengths) / len(lengths))


def test_the_command_runs_as_it_is_typed(tmp_path: Path) -> None:
    model = write_official("llava", tmp_path / "llava-tiny", "2026")
    folder, out = pope_folder(tmp_path / "pope"), tmp_path / "out"
    (folder / SHIPPED.name).unlink()
    typed = words("pope", model, folder, out, "--limit", "4")
    done = subprocess.run([sys.executable, *typed], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Table, figures and page are in" in done.stdout
    assert len({row["id"] for row in lines(out / "rows.jsonl") if row["split"] == "test"}) == 4
    (note,) = json.loads((out / "recipe.json").read_text())["notes"]
    assert "official random ones, which are shipped" in note
    page = html.unescape((out / "report.html").read_text())
    assert all(note in said for said in (done.stdout, page, (out / "table.md").read_text()))


def test_what_cannot_be_run_ends_with_a_line_that_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = write_official("llava", tmp_path / "llava-tiny")
    for task, reason in (("pope", "does not exist"), ("mm_safety", "is no folder"), ("chair", "cannot be read")):
        with pytest.raises(SystemExit, match=f"^compare: .*{reason}"):
            run(monkeypatch, task, model, tmp_path / "none", tmp_path / "out")

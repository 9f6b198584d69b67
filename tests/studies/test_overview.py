"""The table of all methods is read off finished studies alone."""

import json
from pathlib import Path
from typing import Any

import pytest

from methods import NoSteering
from studies.fit.fitting import SECONDS, Kept
from studies.overview import Arguments, overview
from studies.report.tables import NOTHING
from studies.timing.tables import placed

ROOT = Path(__file__).parents[2]


def record(metric: str, method: str, value: float | None, subset: str = "all") -> dict[str, Any]:
    low, high = (None, None) if value is None else (value - 0.1, value + 0.1)
    named = {"task": "shapes_safety", "subset": subset, "method": method, "variant": None}
    return named | {"metric": metric, "value": value, "low": low, "high": high}


def study(folder: Path, model: str, methods: dict[str, float]) -> Path:
    """A finished comparison: each method's objective, its share of benign requests answered, and of sentences."""
    records = [record("appropriate", method, 0.0, "benign") for method in methods]
    for method, value in methods.items():
        records += [record("appropriate", method, value), record("benign_answered", method, 0.75)]
        records.append(record("valid", method, None))
    folder.mkdir()
    (folder / "table.json").write_text(json.dumps(records))
    (folder / "recipe.json").write_text(json.dumps({"settings": {"recipe": {"model": model}}}))
    for number, method in enumerate(methods):
        for block in (0, 1):
            fit = folder / f"fits/contrasts/{method}-reads-3-writes-{block}-seed-0"
            fit.mkdir(parents=True)
            (fit / SECONDS).write_text(json.dumps(2.5 + number - block))
        kept = folder / "steerers" / method
        kept.mkdir(parents=True)
        (kept / "steerer.safetensors").write_bytes(b"0" * 1500)
    return folder


def test_one_table_of_all_models_with_what_methods_cost(tmp_path: Path) -> None:
    one = study(tmp_path / "one", "tiny-llava", {"PAI": 0.5, "NoSteering": 0.4})
    other = study(tmp_path / "other", "tiny-qwen2vl", {"NoSteering": 0.3})
    tuned = study(tmp_path / "tuned", "tiny-llava", {"LoRA": 0.9})
    (tuned / "finetuning.json").write_text(json.dumps({"LoRA": {"seconds": 20.0, "held_bytes": 5_000_000}}))
    speed = tmp_path / "speed.json"
    times = [("unsteered generate", 1.0), ("this toolkit, PAI", 0.8)]
    speed.write_text(json.dumps({"times": [{"what": "32 tokens, by method", "who": w, "ratio": r} for w, r in times]}))
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- measured: methods -->\nold\n<!-- end: methods -->\nafter\n")
    text = overview(Arguments((one, other), (tuned,), speed, page))
    lines = {line.split(" | ")[0].removeprefix("| "): line for line in text.splitlines() if line.startswith("| ")}
    reached, costs = text.split("### What they cost")
    assert [line.split(" | ")[0] for line in reached.splitlines()[4:7]] == ["| NoSteering", "| PAI", "| LoRA"]
    assert "tiny-llava: over refusal | tiny-llava: well formed | tiny-qwen2vl: appropriate" in reached
    assert "| PAI | 0.500 [0.400 to 0.600] | 0.250 [0.150 to 0.350] |" + 4 * f" {NOTHING[0]} |" in reached
    assert lines["PAI"] == "| PAI | 2.5 | 1.25 | 1.5 |"
    assert lines["LoRA"] == "| LoRA | 20.0 | 1.00 | 5,000.0 |"
    assert "old" not in page.read_text()
    assert costs.strip() in page.read_text()


def test_an_unfinished_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no table\.json; run its study to the end"):
        overview(Arguments((tmp_path,)))


def test_the_page_has_a_place_for_the_table() -> None:
    page = (ROOT / "docs/methods.md").read_text()
    assert placed(page, "methods", "some table") != page


def test_the_time_of_a_fit_lies_beside_it(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.all(["a", "b"], lambda places: [NoSteering(0, 0, "")] * len(places))
    assert all(0 <= json.loads((tmp_path / name / SECONDS).read_text()) < 1 for name in "ab")

"""A method that cannot be fitted on a task says so in the table, and the others go on; a fault ends the run."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from methods import L2S, PAI, DoesNotApply
from studies.compare import Arguments, compare
from studies.fit.materials import Materials
from studies.overview import Arguments as Overview
from studies.overview import overview
from studies.report.figures.style import intervals
from studies.run.results import read_rows
from studies.tasks import TASKS, Example, Split
from studies.tasks.shapes_safety import ShapesSafety

pytestmark = pytest.mark.slow

REFUSED = ("ADHH", "L2SGated", "L2SWithADHH")
RUN = ("NoSteering", "MeanSteering", "L2S", *REFUSED)
SMALL = Arguments(
    task="shapes_safety", methods=RUN, strength=(0.5,), limit=2, screen=1, seeds=1, shown=1, batch_size=32
)


def plant(patch: pytest.MonkeyPatch) -> None:
    """The unsteered model makes no mistake, so that there is none to learn from."""
    right = lambda materials: ((example, example.target) for example in materials.examples_of("train"))  # noqa: E731
    patch.setattr(Materials, "_parsed", right)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        out = tmp_path_factory.mktemp("results") / "safety"
        compare(replace(SMALL, out=out))
    return out


def records(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "table.json").read_text())


def test_the_others_are_compared(folder: Path) -> None:
    assert {row["method"] for row in read_rows(folder)} == {*RUN} - {*REFUSED}
    whole = [one for one in records(folder) if (one["subset"], one["metric"]) == ("all", "appropriate")]
    assert [one["method"] for one in whole] == ["NoSteering", "L2S", "MeanSteering", *REFUSED]
    assert [one["value"] is None for one in whole] == [False] * 3 + [True] * 3
    chosen = json.loads((folder / "choices.json").read_text())
    assert {choice["method"] for choice in chosen} == {*RUN} - {*REFUSED}
    assert sorted(file.name for file in (folder / "steerers").iterdir()) == ["L2S", "MeanSteering", "NoSteering"]


def test_the_table_says_why(folder: Path) -> None:
    said = {one["method"]: one["refusal"] for one in records(folder) if "refusal" in one}
    assert {*said} == {*REFUSED}
    assert said["ADHH"] == said["L2SWithADHH"]
    assert "0 are mistakes" in said["ADHH"]
    assert "needs nothing" in said["L2SGated"]
    for name in ("table.md", "report.html"):
        text = (folder / name).read_text()
        for sentence in said.values():
            assert f"does not apply: {sentence}" in text, name
        assert "n = 0 to" not in text


def test_the_figure_has_lines_of_methods_that_ran_alone(folder: Path) -> None:
    axis = intervals(records(folder), "appropriate").axes[0]
    assert [text.get_text() for text in axis.get_yticklabels()] == ["NoSteering", "MeanSteering", "L2S"]


def test_the_overview_says_it_too(folder: Path) -> None:
    lines = overview(Overview((folder,))).splitlines()
    assert next(line for line in lines if line.startswith("| ADHH |")).startswith("| ADHH | does not apply |")


def test_a_run_of_these_alone_says_why_it_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    with pytest.raises(DoesNotApply, match="0 are mistakes"):
        compare(replace(SMALL, out=tmp_path, methods=("ADHH", "L2SGated")))


class Unseen(ShapesSafety):
    """The same questions, one of them without an image."""

    def prompts(self, split: Split) -> list[Example]:
        first, *others = super().prompts(split)
        return [replace(first, prompt=replace(first.prompt, image=None)) if split == "test" else first, *others]


def test_attention_to_an_image_needs_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "shapes_safety", Unseen)
    names = ("PAI", "ADHH", "L2SWithPAI")
    compare(replace(SMALL, out=tmp_path, methods=("NoSteering", "L2S", *names)))
    said = {one["method"]: one["refusal"] for one in records(tmp_path) if "refusal" in one}
    assert {*said} == {*names}
    assert said["PAI"] == said["L2SWithPAI"] == "PAI acts on attention to an image, and 1 of 18 prompts show none."


def test_a_fault_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **options: Any) -> L2S:
        raise ValueError("a fault")

    monkeypatch.setattr(PAI, "fit", broken)
    with pytest.raises(ValueError, match="a fault"):
        compare(replace(SMALL, out=tmp_path, methods=("NoSteering", "PAI")))

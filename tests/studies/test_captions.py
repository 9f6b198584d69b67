"""Captions steered decision by decision: what the decisions are, and that without steering nothing changes."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from interv import VLM
from methods import L2S, capture_contrasts
from studies.captions import Arguments, study
from studies.recipes import RECIPES
from studies.run.stepwise import GOING_ON, OBJECT, Decision, caption_by_steps, decision_pairs, decisions
from studies.tasks.shapes_captions import ShapesCaptions, expected, scenes
from studies.tiny_world.language import caption
from studies.tiny_world.world import ICONS, Scene

pytestmark = pytest.mark.slow

ORDER = list(ICONS)
LAST = ORDER[-1]  # in no everyday scene


def scene() -> Scene:
    return scenes("val")[0][1]


def test_decisions_of_a_right_caption_are_its_own_words() -> None:
    shown = sorted(scene().icons, key=ORDER.index)
    text = caption(shown)
    made = list(decisions(scene(), text))
    assert [d.right for d in made if d.kind == OBJECT] == shown
    assert [d.right for d in made if d.kind == GOING_ON] == [","] * (len(shown) - 2) + ["and", "."]
    assert {d.wrong for d in made if d.kind == OBJECT} == {expected(scene()).word}
    assert [d.wrong for d in made if d.kind == GOING_ON] == ["."] * (len(shown) - 1) + ["and"]
    assert all(text.startswith(f"{d.prefix} {d.right}") for d in made)


def test_a_wrong_object_is_the_wrong_word_and_the_caption_goes_on_behind_it() -> None:
    first, *others = sorted(scene().icons, key=ORDER.index)
    absent = next(word for word in ORDER if word not in scene().icons and ORDER.index(word) < ORDER.index(first))
    made = list(decisions(scene(), caption([absent, first, *others])))
    assert made[0] == Decision(OBJECT, "the image has a", first, absent)
    assert [d.right for d in made if d.kind == OBJECT][1] == first
    late = list(decisions(scene(), caption([first, *others, LAST])))
    assert (late[-2].right, late[-2].wrong) == (".", "and")  # it should have stopped before the last object


def test_steps_without_steering_are_the_models_own_captions() -> None:
    vlm, task = VLM.load("tiny-llava"), ShapesCaptions()
    prompts = [example.prompt for example in task.prompts("val")[:12]]
    whole = vlm.generate(prompts, max_new_tokens=40)
    assert caption_by_steps(vlm, prompts, {}, 0.0, max_new_tokens=40) == list(whole)
    pairs = decision_pairs(vlm, scenes("train")[:8], batch_size=8, max_new_tokens=40)
    bank = capture_contrasts(vlm, pairs, batch_size=32, layers=[4], progress=False)
    steerer = L2S.fit(bank.at(4, 4))
    assert caption_by_steps(vlm, prompts, {GOING_ON: steerer}, 0.0, max_new_tokens=40) == list(whole)
    assert caption_by_steps(vlm, prompts, {GOING_ON: steerer}, 3.0, max_new_tokens=40) != list(whole)


def test_the_study_leaves_its_table_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = Arguments(out=tmp_path, screen=1, trained=6, limit=2, strength=(1.0,), layers=(4,))
    records = study(small)
    kinds = ("object", "going on", "both")
    steered = {(name, kind) for name in ("MeanSteering", "L2S") for kind in kinds}
    assert {(r["method"], r["variant"]) for r in records} == {("NoSteering", None), *steered}
    assert "L2S (going on)" in (tmp_path / "table.md").read_text()
    assert "no image" not in (tmp_path / "report.html").read_text()
    assert (tmp_path / "figures" / "strength.png").exists()
    assert {c["method"] for c in json.loads((tmp_path / "curves.json").read_text())} == {
        "NoSteering",
        "MeanSteering",
        "L2S",
    }
    recipe = json.loads((tmp_path / "recipe.json").read_text())["settings"]["recipe"]
    assert (recipe["pool"], recipe["checkpoint"], recipe["scope"]) == ("last", "last", "response")
    assert {"chair_s", "chair_i", "recall", "object_f1"} <= {r["metric"] for r in records}
    rows = (tmp_path / "rows.jsonl").read_text()
    torn = "".join(rows.splitlines(keepends=True)[:-4])
    (tmp_path / "rows.jsonl").write_text(torn)
    with monkeypatch.context() as patch:
        patch.setattr(L2S, "fit", lambda *args, **options: pytest.fail("it was fitted again"))
        study(small)
    assert (tmp_path / "rows.jsonl").read_text() == rows
    assert "Captions steered decision by decision" in (tmp_path / "report.html").read_text()


def test_workers_that_would_idle_are_refused(tmp_path: Path) -> None:
    for change in ({"workers": 2}, {"ray": "local"}, {"engine": "python"}):
        with pytest.raises(ValueError, match="leave --workers, --ray and --engine out"):
            study(replace(Arguments(out=tmp_path / "x"), **change))
    assert not (tmp_path / "x").exists()


def test_the_recipes_network_is_the_one_that_is_trained_and_auto_halves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden, sizes = [], []
    fit, prefill = L2S.fit, VLM.prefill

    def fitted(train: Any, **options: Any) -> L2S:
        hidden.append(options["hidden"])
        return fit(train, **options)

    def limited(self: VLM, prompts: Any, *reads: Any) -> Any:
        sizes.append(len(prompts))
        if len(prompts) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return prefill(self, prompts, *reads)

    monkeypatch.setattr(L2S, "fit", fitted)
    monkeypatch.setattr(VLM, "prefill", limited)
    monkeypatch.setitem(RECIPES, "narrow", replace(RECIPES["embedded_captions"], name="narrow", hidden=7))
    one = {"screen": 2, "trained": 4, "limit": 2, "strength": (1.0,), "layers": (4,)}
    study(Arguments(out=tmp_path, recipe="narrow", batch_size="auto", **one))
    assert set(hidden) == {7}
    assert max(sizes) > 4
    assert min(sizes[-3:]) <= 4

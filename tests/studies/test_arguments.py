"""Before a study runs: the right recipe, and arguments that fit nothing refused in one line."""

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from interv import VLM
from studies import calibration as calibration_study
from studies import compare as compare_study
from studies import layer_sweep as layer_study
from studies import speed as speed_study
from studies import strength_sweep as strength_study
from studies.compare import Arguments, compare
from studies.fit.selection import Grid
from studies.recipes import RECIPES
from studies.run.arguments import Common, guard_of, prepare, recipe_of
from tests.studies.guards import save_guard

SMALL = Arguments(methods=("NoSteering", "MeanSteering"), strength=(0.5,), limit=2, screen=1, shown=1, seeds=1)


def model(kind: str, blocks: int, width: int = 4096) -> VLM:
    """As much of a model as a recipe looks at."""
    vlm = object.__new__(VLM)
    vars(vlm).update(model=SimpleNamespace(config=SimpleNamespace(model_type=kind)), n_layers=blocks, d_model=width)
    return vlm


@pytest.mark.parametrize(
    ("kind", "blocks", "layer", "strength"),
    [
        ("llava", 32, 14, 1.0),
        ("qwen2_vl", 28, 17, 1.0),
        ("llava", 40, None, None),
        ("llava_next", 32, None, None),
        ("gemma3", 34, None, None),
    ],
)
def test_layers_and_strength_are_taken_for_the_model_that_they_were_found_on(kind, blocks, layer, strength) -> None:
    recipe = recipe_of("pope", "some/checkpoint", model(kind, blocks), None)
    assert (recipe.reads, recipe.writes, recipe.strength) == (layer, layer, strength)
    assert recipe.model == "some/checkpoint"


def test_a_real_benchmark_refuses_another_ones_recipe() -> None:
    with pytest.raises(ValueError, match="paper_pope_llava is a recipe for pope, and says nothing of chair"):
        recipe_of("chair", "llava-hf/llava-1.5-7b-hf", model("llava", 32), RECIPES["paper_pope_llava"])
    small = recipe_of("shapes_safety", "tiny-llava", model("llava", 8, 96), RECIPES["paper_pope_llava"])
    assert (small.task, small.reads) == ("shapes_safety", None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ("L2S", "L2S")}, "--methods has L2S twice"),
        ({"methods": ()}, "--methods names no method"),
        ({"strength": (0.5, 0.5)}, r"--strength has 0\.5 twice"),
        ({"seeds": 0}, "--seeds is 0; it must be at least 1"),
        ({"limit": 0}, "--limit is 0"),
        ({"screen": 0}, "--screen is 0"),
        ({"batch_size": 0}, "--batch-size is 0"),
        ({"shown": -1}, "--shown is -1; it must be at least 0"),
        ({"batch_size": -4}, "--batch-size is -4; it must be at least 1"),
        ({"strength": (0.5, 0.0)}, "--strength has 0; give multiples of the contrast vector above 0"),
        ({"strength": (-1.0,)}, "--strength has -1;"),
        ({"strength": (float("nan"),)}, "--strength has nan;"),
        ({"dtype": "foo"}, "--dtype foo is none of torch's"),
        ({"device": "gpu"}, "--device gpu is none of torch's"),
        ({"guard": "nowhere"}, "--guard and --judge are for mm_safety"),
    ],
)
def test_arguments_that_fit_nothing_are_refused_by_their_flag(change: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        compare(replace(SMALL, out=tmp_path / "x", **change))
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"share": 0.0}, "--share is 0; give a share of the grid's cost above 0 and at most 1"),
        ({"share": 1.5}, r"--share is 1\.5;"),
        ({"budget": 1.0}, "--budget is 1; give a share of well-formed replies from 0 to below 1"),
        ({"budget": -0.1}, r"--budget is -0\.1;"),
        ({"halvings": 0}, "--halvings is 0; it must be at least 1"),
        ({"writes": (3, 3)}, "--writes has 3 twice; give each once"),
        ({"reads": (9,)}, "tiny-llava has no block 9: its 8 blocks count from 0"),
    ],
)
def test_what_calibration_cannot_do_is_refused_by_its_flag(change: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        calibration_study.calibration(calibration_study.Arguments(out=tmp_path / "x", **change))
    assert not (tmp_path / "x").exists()


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="--device cuda: torch finds no CUDA device"):
        prepare(Common(device="cuda"))


def test_a_guard_that_cannot_be_loaded_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"--guard .*nowhere cannot be loaded"):
        prepare(Common(task="mm_safety", guard=str(tmp_path / "nowhere")))
    folder, file = str(save_guard(tmp_path / "guard")), tmp_path / "examples.json"
    file.write_text('[["steps", "unsafe"], ["no", "safe"]]')
    guard = guard_of(Common(guard=folder, guard_form="documented", guard_examples=file))
    assert guard is not None
    assert (guard.form, guard.examples) == ("documented", (("steps", "unsafe"), ("no", "safe")))
    file.write_text('[["steps", "bad"]]')
    with pytest.raises(ValueError, match="is no list of examples"):
        guard_of(Common(guard=folder, guard_examples=file))


@pytest.mark.parametrize("study", [compare_study, layer_study, strength_study, speed_study])
def test_a_study_that_cannot_run_ends_with_one_line(study: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    name = study.__name__.rpartition(".")[2]
    monkeypatch.setattr(sys, "argv", [name, "--dtype", "foo"])
    with pytest.raises(SystemExit, match=f"^{name}: --dtype foo is none of torch's"):
        study.main()
    if study is not speed_study:
        monkeypatch.setattr(VLM, "load", lambda *args, **options: (_ for _ in ()).throw(OSError("no such file")))
        monkeypatch.setattr(sys, "argv", [name])
        with pytest.raises(SystemExit, match=f"^{name}: no such file"):
            study.main()


def test_a_recipe_says_which_blocks_are_tried_as_far_as_the_model_has_them() -> None:
    recipe = RECIPES["embedded_pictures_pope"]
    grid = Grid.of(recipe, 30, None)
    assert (grid.writes, grid.reads, grid.strengths) == ((20, 25), (20, 25), (0.05, 0.1, 0.2, 0.5, 1.0))
    small = Grid.of(recipe, 24, (1.0,))
    assert (small.writes, small.reads, small.strengths) == ((20,), (20,), (1.0,))
    assert Grid.of(recipe, 8, None).writes == (3, 4)
    assert Grid.of(replace(recipe, writes=5), 30, None).writes == (5,)
    assert not {"tried_reads", "tried_writes", "tried_strengths"} & RECIPES["embedded_pope"].card().keys()


def test_a_folder_of_pictures_is_for_the_tasks_over_pictures(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="0 things and 12 are the least"):
        prepare(Common(task="pictures_pope", data=tmp_path))
    with pytest.raises(ValueError, match=r"shapes_pope makes its own images; --data is for pictures_pope"):
        prepare(Common(task="shapes_pope", data=tmp_path))
    vlm, task, recipe = prepare(Common(task="pictures_captions"))
    assert (task.name, recipe.name, recipe.model) == ("pictures_captions", "embedded_pictures_captions", vlm.name)

"""What a run would take, said before anything is loaded, against what the run then does."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.progress import Progress

from interv import VLM
from interv.running.runner import Runner
from studies.compare import Arguments, compare, counted
from studies.recipes import RECIPES, Recipe
from studies.run.sizes import MOST, Sizes
from studies.run.stages import Stage

SMALL = Arguments(
    methods=("NoSteering", "PromptSteering", "L2S", "P2S", "VCD", "LogitThreshold"),
    strength=(0.5,),
    limit=2,
    screen=1,
    seeds=2,
    shown=1,
    batch_size=64,
)


def counting(monkeypatch: pytest.MonkeyPatch) -> Counter:
    """Counts, as they come, of rows that are prefilled, of decode steps, and of what the progress bars are over."""
    seen: Counter = Counter()
    prefix, fill, capture, generate, task = VLM.prefix, Runner.fill, VLM.capture, Runner.generate, Progress.add_task

    def note(encoded: Any) -> None:
        seen["prefills"] += len(encoded)
        seen["image_tokens"] += int(encoded.image_mask.sum())

    def counted_prefix(self: VLM, encoded: Any, blocks: int) -> Any:
        note(encoded)
        return prefix(self, encoded, blocks)

    def counted_fill(self: Runner, plan: Any, step: Any, encoded: Any) -> Any:
        note(encoded)
        return fill(self, plan, step, encoded)

    def counted_capture(self: VLM, prompts: Any, *args: Any, **options: Any) -> Any:
        encoded = self.encode(prompts)
        note(encoded)
        return capture(self, encoded, *args, **options)

    def counted_generate(self: Runner, plan: Any, step_at: Any, settings: Any) -> Any:
        output = generate(self, plan, step_at, settings)
        seen["steps"] += output.sequences.shape[1] - settings["input_ids"].shape[1]
        return output

    def counted_task(self: Progress, description: str, **options: Any) -> Any:
        seen["pairs" if description.startswith("Capturing") else "replies"] += options["total"]
        return task(self, description, **options)

    monkeypatch.setattr(VLM, "prefix", counted_prefix)
    monkeypatch.setattr(VLM, "capture", counted_capture)
    monkeypatch.setattr(Runner, "fill", counted_fill)
    monkeypatch.setattr(Runner, "generate", counted_generate)
    monkeypatch.setattr(Progress, "add_task", counted_task)
    return seen


def total(stages: list[Stage], name: str) -> int:
    return sum(getattr(stage, name) for stage in stages if stage.name != "threshold" or name != "replies")


@pytest.fixture(autouse=True)
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Table, figures and page are no part of what is counted, and take the longest."""
    monkeypatch.setattr("studies.compare.report", lambda *args: [])


TRIED = replace(RECIPES["embedded_pope"], epochs=1)
SAID = replace(TRIED, pool="mean_generated", generated_tokens=4)
REACHING = replace(TRIED, pool="last", scope="all", context="closed_user_turn")


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "methods"), [(SAID, SMALL.methods), (REACHING, ("NoSteering", "L2S", "P2S"))])
def test_a_run_does_what_was_said_within_a_fifth(
    recipe: Recipe, methods: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RECIPES, "tried", recipe)
    small = replace(SMALL, recipe="tried", methods=methods, out=tmp_path / "out")
    stages = counted(replace(small, dry_run=True))
    assert not (tmp_path / "out").exists()
    seen = counting(monkeypatch)
    compare(small)
    for name in ("pairs", "replies", "prefills", "image_tokens"):
        assert total(stages, name) == pytest.approx(seen[name], rel=0.2), name
    assert seen["steps"] <= 1.2 * total(stages, "steps")
    assert seen["steps"] >= 0.5 * total(stages, "steps")  # replies end before the longest that they may be


def test_contrasts_take_the_bytes_that_were_said(tmp_path: Path) -> None:
    small = replace(SMALL, methods=("NoSteering",), task="shapes_safety", limit=2, out=tmp_path / "out")
    stages = counted(replace(small, dry_run=True))
    compare(small)
    for split in ("train", "val"):
        (said,) = (stage for stage in stages if stage.name == f"contrasts, {split}")
        file = tmp_path / "out" / "contrasts" / split / "contrasts.safetensors"
        assert said.memory == pytest.approx(file.stat().st_size, rel=0.2)


def test_nothing_is_loaded_for_the_count(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr("safetensors.torch.load_file", lambda *args, **options: pytest.fail("weights were read"))
    monkeypatch.setattr(VLM, "load", lambda *args, **options: pytest.fail("the model was loaded"))
    counted(replace(SMALL, model="tiny-qwen2vl", dry_run=True))
    said = capsys.readouterr().out
    assert "tiny-qwen2vl: 0.00 billion weights" in said
    assert "Batch size 64" in said


def test_seven_billion_weights_leave_room_for_few_replies_on_24_gb() -> None:
    llava = Sizes(7_063_000_000, 14_126_000_000, 2 * 32 * 4096 * 2, (3 * 11008 + 6 * 4096) * 2, 4096, 32)
    assert llava.fitting(24 * 10**9, 640, 12) == 8
    qwen = Sizes(8_291_000_000, 16_582_000_000, 2 * 28 * 4 * 128 * 2, (3 * 18944 + 6 * 3584) * 2, 3584, 28)
    assert qwen.fitting(24 * 10**9, 450, 12) == 32
    assert llava.fitting(15 * 10**9, 640, 12) == 1
    assert llava.fitting(10**12, 640, 12) == MOST


def test_the_outline_has_the_sizes_of_the_model() -> None:
    for name in ("tiny-llava", "tiny-qwen2vl"):
        outline, vlm = Arguments(model=name).outlined(), VLM.load(name)
        assert all(parameter.is_meta for parameter in outline.model.parameters())
        assert Sizes.of(outline) == Sizes.of(vlm)
        assert outline.model.dtype == vlm.model.dtype == torch.float32


@pytest.mark.slow
def test_auto_begins_with_what_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studies.run.batch.memory_of", lambda device: 8_000_000)
    small = replace(SMALL, methods=("NoSteering",), batch_size="auto", limit=2, out=tmp_path / "out")
    compare(small)
    cost = (tmp_path / "out" / "cost.json").read_text()
    assert '"batch_size": 256' not in cost

"""lmms-eval evaluates a model of the toolkit: unsteered its number is that of lmms-eval's own model class."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from interv import VLM, Prompt
from interv.models.load import EMBEDDED
from methods import L2S, capture_contrasts, load_steerer, steer
from studies.tasks import TASKS
from tests.studies.world_file import write_world

pytest.importorskip("lmms_eval", reason="lmms-eval is not installed: docs/evaluating.md says how")

from interv_harnesses.for_lmms_eval import SteeredLmms, check

ROWS = 16
NAME = "has_pictogram"  # of the task; a folder of this name would be taken for it
TASK = """
dataset_path: FOLDER/data
dataset_kwargs: {}
task: NAME
test_split: test
output_type: generate_until
doc_to_visual: !function utils.visual
doc_to_text: !function utils.text
doc_to_target: target
generation_kwargs: {max_new_tokens: 12, temperature: 0, do_sample: false, until: ["nothing"]}
process_results: !function utils.results
metric_list:
  - {metric: accuracy, aggregation: mean, higher_is_better: true}
metadata:
  - version: 0.0
"""
UTILS = """
def visual(doc):
    return [doc["image"].convert("RGB")]

def text(doc, lmms_eval_specific_kwargs=None):
    return doc["question"]

def results(doc, results):
    said = results[0].split()
    return {"accuracy": float(said[:1] == [doc["target"]])}
"""


@pytest.fixture(scope="module")
def tiny() -> VLM:
    return VLM.load("tiny-llava")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny: VLM) -> Path:
    """A task with its images, and a steerer."""
    import datasets

    folder = tmp_path_factory.mktemp("lmms")
    write_world(folder / "world", val=ROWS)
    held = [{**row, "image": {"bytes": (folder / "world" / row["image"]).read_bytes()}} for row in rows(folder)]
    stored = datasets.Dataset.from_list(held).cast_column("image", datasets.Image())
    (folder / "data" / "data").mkdir(parents=True)
    stored.to_parquet(folder / "data" / "data" / "test-00000-of-00001.parquet")
    (folder / "task").mkdir()
    (folder / "task" / "task.yaml").write_text(TASK.replace("FOLDER", str(folder)).replace("NAME", NAME))
    (folder / "task" / "utils.py").write_text(UTILS)
    bank = capture_contrasts(tiny, TASKS["shapes_pope"]().pairs("val")[:60], batch_size=60, pool="mean", progress=False)
    L2S.fit(bank.at(reads=3, writes=4), epochs=40).save(
        folder / "steerer", about={"model": {"name": "tiny-llava"}, "strength": 1.0, "max_new_tokens": 12}
    )
    return folder


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "world" / "data.jsonl").read_text().splitlines()]


def own(folder: Path, vlm: VLM, steerer: Any = None) -> list[str]:
    """The toolkit's replies, one by one."""
    prompts = [Prompt(folder / "world" / row["image"], row["question"]) for row in rows(folder)]
    if steerer is None:
        return [vlm.generate([prompt], max_new_tokens=12)[0] for prompt in prompts]
    return [steer(vlm, [prompt], steerer, max_new_tokens=12)[0] for prompt in prompts]


def ran(folder: Path, model: str, arguments: str) -> tuple[float, list[str]]:
    """lmms-eval as somebody types it: its accuracy, and the replies in order."""
    out = folder / f"out-{model}-{'steerer' in arguments}"
    command = [sys.executable, "-m", "lmms_eval", "--model", model, "--model_args", arguments, "--tasks", NAME]
    command += ["--include_path", str(folder / "task"), "--batch_size", "1", "--device", "cpu"]
    command += ["--log_samples", "--output_path", str(out), "--verbosity", "DEBUG"]  # else an error ends with 0
    offline = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hub")}
    done = subprocess.run(command, cwd=folder, env=offline, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (results,) = out.rglob("*_results.json")
    (samples,) = out.rglob(f"*_samples_{NAME}.jsonl")
    lines = sorted((json.loads(line) for line in samples.read_text().splitlines()), key=lambda one: one["doc_id"])
    said = [line["filtered_resps"] for line in lines]
    found = json.loads(results.read_text())["results"][NAME]
    return found["accuracy,none"], [one if isinstance(one, str) else one[0] for one in said]


def test_unsteered_its_number_is_that_of_the_harness_and_steered_that_of_steer(folder: Path, tiny: VLM) -> None:
    theirs, said = ran(folder, "llava_hf", f"pretrained={EMBEDDED / 'tiny-llava'},device_map=cpu")
    plain, replies = ran(folder, "interv", "pretrained=tiny-llava")
    assert replies == own(folder, tiny)
    assert plain == pytest.approx(theirs)
    assert [one.strip() for one in said] == replies
    _, steered = ran(folder, "interv", f"pretrained=tiny-llava,steerer={folder / 'steerer'}")
    assert steered == own(folder, tiny, load_steerer(folder / "steerer", vlm=tiny))
    assert steered != replies


@pytest.mark.parametrize(("name", "value"), [("temperature", 0.7), ("do_sample", True), ("num_beams", 3), ("else", 1)])
def test_a_setting_that_replies_would_not_follow_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name}=.* is not possible here"):
        check({name: value})
    check({"temperature": 0, "do_sample": False, "num_beams": 1, "top_p": 1.0, "until": ["x"], "max_new_tokens": 3})


def test_what_is_not_had_is_said() -> None:
    with pytest.raises(ValueError, match="one after the other"):
        SteeredLmms(pretrained="tiny-llava", batch_size=4)
    with pytest.raises(ValueError, match="'steerr' is no argument here"):
        SteeredLmms(pretrained="tiny-llava", steerr="x")

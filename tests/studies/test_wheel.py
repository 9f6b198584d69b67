"""The wheel, installed outside the checkout: from a file of examples to a steerer that answers, on the command line."""

import json
import os
import shutil
import site
import subprocess
import sys
import time
import venv
from pathlib import Path
from typing import Any

import pytest
import torch

from methods import Query, load_steerer
from studies.compare import Arguments, compare
from tests.studies.world_file import write_world

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PACKAGES = ("interv", "interv_cli", "interv_harnesses", "methods", "studies")
SECONDS = 180  # of processor time, for the fit
POINTS = 0.03


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel; what it depends on is found where this test found it."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--quiet"]
    built = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source]
    subprocess.run(built, check=True, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    (own,) = (folder / "venv" / "lib").glob("python*/site-packages")
    # A plain line: the files that make this checkout importable here are not read from there.
    (own / "dependencies.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    subprocess.run([*pip, "--python", python, "install", "--no-deps", "--no-index", wheel], check=True, cwd=folder)
    return folder / "venv" / "bin"


def ran(installed: Path, *words: str | Path, folder: Path) -> dict[str, Any]:
    """What a command prints with --json."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [installed / "interv", *words, "--json"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=3000)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_wheel_is_what_runs(installed: Path, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    code = "import interv, interv_cli, studies.own; print(interv.__file__, interv_cli.__file__, studies.own.__file__)"
    where = [installed / "python", "-c", code]
    said = subprocess.run(where, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    assert all(Path(place).is_relative_to(installed.parent) for place in said.split())
    helped = subprocess.run([installed / "interv", "--help"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "fit a steerer to a file of examples" in helped.stdout
    for package in PACKAGES:
        assert [*installed.parent.glob(f"lib/*/site-packages/{package}/py.typed")]


def test_a_file_of_examples_ends_in_a_steerer_as_good_as_the_studys(installed: Path, tmp_path: Path) -> None:
    data = write_world(tmp_path / "world", train=1020, val=600, test=600)
    began, wall = os.times(), time.monotonic()
    words = ("fit", data, "--model", "tiny-llava", "--method", "L2S", "--out", "steerer", "--max-new-tokens", "12")
    card = ran(installed, *words, "--threads", "1", folder=tmp_path)
    ended = os.times()
    used = ended.children_user + ended.children_system - began.children_user - began.children_system
    print(f"fit: {used:.0f} s of processor time, {time.monotonic() - wall:.0f} s in all")
    studied = compare(Arguments(methods=("NoSteering", "L2S"), seeds=1, shown=1, out=tmp_path / "compare"))
    accuracies = [
        {one["method"]: one["value"] for one in records if (one["metric"], one["subset"]) == ("accuracy", "all")}
        for records in (card["results"], studied)
    ]
    print(f"fit {accuracies[0]}, compare {accuracies[1]}")
    assert abs(accuracies[0]["L2S"] - accuracies[1]["L2S"]) <= POINTS
    assert used < SECONDS
    row = json.loads(data.read_text().splitlines()[0])
    answer = ran(installed, "ask", "steerer", data.parent / row["image"], row["question"], folder=tmp_path)
    assert answer["unsteered"]
    assert answer["steered"]
    code = (
        f"import torch; torch.set_num_threads({torch.get_num_threads()}); from methods import Query, load_steerer;"
        "ops = load_steerer('steerer').ops(Query(torch.load('context.pt', weights_only=True)));"
        "torch.save(ops[0].vector, 'vector.pt')"
    )
    context = torch.randn(5, 96)
    torch.save(context, tmp_path / "context.pt")
    subprocess.run([installed / "python", "-c", code], cwd=tmp_path, check=True)
    again = torch.load(tmp_path / "vector.pt", weights_only=True)
    assert torch.equal(again, load_steerer(tmp_path / "steerer").ops(Query(context))[0].vector)

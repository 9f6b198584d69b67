"""The code in README and docs runs as it stands, and what the README claims of it is seen."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from interv.places.layouts import LAYOUTS
from studies.fit.fitting import STEERING
from studies.tasks import TASKS
from tests.documents import PAGES, Block, blocks
from tests.studies.world_file import write_world

# Pages whose blocks run one after the other, in an empty folder.
WHOLE = ("README.md", "docs/guide.md", "docs/evaluating.md", "docs/extending.md")
SLOW = WHOLE[1:]
# Pages that need something beside them, which a test below makes.
PREPARED = ("docs/command-line.md", "docs/tutorial.md")
NOT_RUN = {
    "docs/models.md: from interv import VLM": "loads checkpoints of seven billion parameters from the hub",
    "docs/serving.md: from vllm import LLM, SamplingParams": "vLLM has an environment of its own; make test-serving",
    "docs/command-line.md: from methods import load_steerer, steer": "fetches from the hub; tests/unit/test_hub.py",
}


def run(block: Block, names: dict[str, Any]) -> None:
    exec(compile(block.text, f"{block.page}, line {block.line}", "exec"), names)


def test_every_block_of_python_runs_or_is_named_with_a_reason() -> None:
    found = {block.name: block for page in PAGES for block in blocks(page, "python")}
    left = {name for name, block in found.items() if block.page not in (*WHOLE, *PREPARED) or name in NOT_RUN}
    assert left == {*NOT_RUN}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["L2S", "MeanSteering"])
def test_the_first_block_runs_with_any_method(method: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One word swaps the method. L2S mends answers; the mean of yes and no, which cancel, moves next to none."""
    names: dict[str, Any] = {}
    exec(compile(blocks("README.md", "python")[0].text.replace("L2S", method), "README.md", "exec"), names)
    right = [
        sum(
            names["task"].parse(reply) == example.target
            for reply, example in zip(replies, names["examples"], strict=True)
        )
        for replies in (names["before"], names["after"])
    ]
    moved = capsys.readouterr().out.count("->")
    assert (right[0] + 3 <= right[1] and moved >= 5) if method == "L2S" else moved <= 2


@pytest.fixture
def registers() -> Iterator[None]:
    """What a page puts into the lists of tasks, methods and families is taken out again."""
    kept: list[tuple[dict[str, Any], dict[str, Any]]] = [(one, dict(one)) for one in (TASKS, STEERING, LAYOUTS)]
    yield
    for one, before in kept:
        one.clear()
        one.update(before)


@pytest.mark.usefixtures("registers")
@pytest.mark.parametrize("page", [pytest.param(page, marks=[pytest.mark.slow] * (page in SLOW)) for page in WHOLE])
def test_all_blocks_run_one_after_the_other(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "page"}
    found = blocks(page, "python")
    assert found
    for block in found:
        run(block, names)


@pytest.mark.slow
def test_the_page_of_the_command_line_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_world(tmp_path / "world", val=100)
    shutil.copytree(tmp_path / "world", tmp_path, dirs_exist_ok=True)
    shutil.copy(next((tmp_path / "images").iterdir()), tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    (block,) = (block for block in blocks("docs/command-line.md", "python") if block.name not in NOT_RUN)
    run(block, names)
    assert names["before"]
    assert names["after"]

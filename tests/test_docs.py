"""The code in README and guide runs as it stands, and what the README claims of it is seen."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.studies.world_file import write_world

ROOT = Path(__file__).parents[1]


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("method", ["L2S", "MeanSteering"])
def test_the_first_block_runs_with_any_method(method: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One word swaps the method. L2S mends answers; the mean of yes and no, which cancel, moves next to none."""
    names: dict[str, Any] = {}
    exec(compile(blocks("README.md")[0].replace("L2S", method), "README.md", "exec"), names)
    right = [
        sum(
            names["task"].parse(reply) == example.target
            for reply, example in zip(replies, names["examples"], strict=True)
        )
        for replies in (names["before"], names["after"])
    ]
    moved = capsys.readouterr().out.count("->")
    assert (right[0] + 3 <= right[1] and moved >= 5) if method == "L2S" else moved <= 2


@pytest.mark.slow
def test_the_page_of_the_command_line_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_world(tmp_path / "world", val=100)
    shutil.copytree(tmp_path / "world", tmp_path, dirs_exist_ok=True)
    shutil.copy(next((tmp_path / "images").iterdir()), tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    (block,) = blocks("docs/command-line.md")
    exec(compile(block, "docs/command-line.md", "exec"), names)
    assert names["before"]
    assert names["after"]


@pytest.mark.parametrize(("page", "count"), [("README.md", 2), ("docs/guide.md", 9), ("docs/evaluating.md", 1)])
def test_all_blocks_run_one_after_the_other(
    page: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "guide"}
    found = blocks(page)
    assert len(found) == count
    for number, block in enumerate(found):
        exec(compile(block, f"{page}, block {number}", "exec"), names)

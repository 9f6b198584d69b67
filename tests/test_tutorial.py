"""The tutorial as it is typed: its blocks and commands one after the other, and what it says of them."""

import contextlib
import io
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from interv_cli.main import run
from methods import read_card
from tests.documents import blocks

PAGE = "docs/tutorial.md"
# The environment is there already, and what these lines do to an empty one needs minutes and a network.
INSTALLING = ("python3 -m venv .venv", ". .venv/bin/activate", "pip install -c constraints.txt .")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The folder in which all was typed, and what each command printed."""
    folder = tmp_path_factory.mktemp("tutorial")
    names: dict[str, Any] = {}
    printed: dict[str, str] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for block in blocks(PAGE, "python", "sh"):
            if block.language == "python":
                exec(compile(block.text, f"{PAGE}, line {block.line}", "exec"), names)
                continue
            printed |= {command: output_of(command) for command in block.commands if command not in INSTALLING}
    return folder, printed


def output_of(command: str) -> str:
    """What an `interv` command prints, where it ends well."""
    program, *words = shlex.split(command)
    assert program == "interv", command
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert run(words) == 0, command
    return said.getvalue()


def test_every_row_can_be_used(typed: tuple[Path, dict[str, str]]) -> None:
    _, printed = typed
    assert "1,020 of 1,020 rows can be used" in printed["interv check data.jsonl"]


def test_the_row_on_the_page_is_a_row_of_the_file(typed: tuple[Path, dict[str, str]]) -> None:
    folder, _ = typed
    (shown,) = blocks(PAGE, "json")
    rows = [json.loads(line) for line in (folder / "data.jsonl").read_text().splitlines()]
    assert json.loads(shown.text) in rows


def test_steering_does_what_the_page_says(typed: tuple[Path, dict[str, str]]) -> None:
    """The numbers of the page are those of the machine that it was written on; within a point they are everyone's."""
    folder, _ = typed
    about = read_card(folder / "mine")["about"]
    there = {
        one["method"]: one["value"] for one in about["results"] if (one["metric"], one["subset"]) == ("accuracy", "all")
    }
    (page,) = blocks(PAGE, "text")
    told = dict(re.findall(r"(\w+)\s+accuracy\s+([\d.]+)", page.text))
    assert {*told} == {*there}
    assert all(float(told[name]) == pytest.approx(there[name], abs=0.02) for name in there)
    assert there["L2S"] > there["NoSteering"] + 0.03


def test_the_question_of_the_page_is_answered_otherwise_when_steered(typed: tuple[Path, dict[str, str]]) -> None:
    _, printed = typed
    (said,) = (text for command, text in printed.items() if command.startswith("interv ask"))
    unsteered, steered = re.findall(r": (.*)", said)
    assert unsteered != steered

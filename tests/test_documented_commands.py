"""Every command in the documentation is one that there is, with arguments that it takes.

What takes minutes is not run from here: `interv` and the studies are read as far as their arguments, by the parsers
that would read them. The tutorial and the page of the command line run whole; each study runs small in tests/studies.
"""

import functools
import re
import shlex
import tomllib
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest
import tyro

import interv_cli.main
from tests.documents import PAGES, ROOT, SHELL, Block, blocks

# What is not the project's own, or acts elsewhere than here.
ELSEWHERE = {
    "python3 -m venv": "makes an environment",
    ". .venv/bin/activate": "enters it",
    "hf auth login": "asks for a token of the hub",
    "curl": "asks a server, serving/tests/test_http.py",
    ".venv/bin/ruff": "formats the checkout",
    "inspect eval": "an extra's command; tests/harnesses/test_inspect.py types it",
    "lmms-eval": "an extra's command; tests/harnesses/test_lmms_eval.py types it",
    "pip install --no-deps lmms-eval": "another's package, without what it asks for; make test-harnesses",
    "jupyter lab": "opens a browser; tests/test_notebooks.py runs the cells",
}
NO_SHELL = ("docs/performance.md: 2 * k * b * B",)  # indented blocks that hold something else


def documented() -> list[tuple[Block, str]]:
    shell = [block for page in PAGES for block in blocks(page, *SHELL) if not block.name.startswith(NO_SHELL)]
    return [(block, command) for block in shell for command in block.commands]


@pytest.mark.parametrize("command", dict.fromkeys(command for _, command in documented()))
def test_a_documented_command_is_one_that_there_is(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if not command.startswith((*ELSEWHERE,)):
        check(command, monkeypatch)


def check(command: str, patch: pytest.MonkeyPatch) -> None:
    """Raises where the command is none, or does not take these arguments."""
    words = shlex.split(command.removeprefix(".venv/bin/"))
    match words:
        case ["interv", *rest]:
            assert parsed_by_interv(rest, patch) == 0, command
        case ["make", target]:
            assert re.search(rf"^{re.escape(target)}:", (ROOT / "Makefile").read_text(), re.MULTILINE), command
        case ["pip", "install", *rest]:
            installed(rest)
        case ["python", "-m", "pytest", *rest] | ["pytest", *rest]:
            assert all((ROOT / word).exists() for word in rest if word.startswith("tests")), command
        case ["python", "-m", module, *rest] if not module.startswith("studies"):
            assert find_spec(module) is not None, command
            assert not rest, command
        case ["python", "-m", module, *rest]:
            tyro.cli(import_module(module).Arguments, args=rest)
        case ["python", script, *rest] if script.startswith("studies/"):
            tyro.cli(import_module(script.removesuffix(".py").replace("/", ".")).Arguments, args=rest)
        case ["python", "-c", code]:
            compile(code, command, "exec")
        case _:
            pytest.fail(f"{command!r} is no command that this test knows; name it in ELSEWHERE with a reason.")


def parsed_by_interv(words: list[str], patch: pytest.MonkeyPatch) -> int:
    """The exit code of `interv` where each command stops behind its arguments."""
    function_of = interv_cli.main.function_of

    def silent(command: Any) -> Callable[..., Any]:
        return functools.wraps(function_of(command))(lambda *args, **named: None)

    patch.setattr(interv_cli.main, "function_of", silent)
    return interv_cli.main.run(words)


def installed(words: list[str]) -> None:
    """Raises where a file of constraints, a folder or an extra is not there."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for word in words:
        if named := re.fullmatch(r"(?:interv|\.)\[(.+)\]", word):
            assert {*named[1].split(",")} <= {*extras}, word
        else:
            assert word in ("-c", "-e", "--no-deps", "interv", "interv-vllm") or (ROOT / word).exists(), word


@pytest.mark.parametrize(
    "command",
    [
        "interv comparr --task shapes_pope",
        "interv check data.jsonl --nonsense",
        "python studies/compare.py --tasks shapes_pope",
        "python studies/nothing.py",
        "make nothing",
        "pip install 'interv[nothing]'",
        "python -m tests.nothing",
        "pytest tests/nothing",
        "rm -rf results",
    ],
)
def test_a_command_that_there_is_not_is_found(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises((AssertionError, SystemExit, ImportError, pytest.fail.Exception)):
        check(command, monkeypatch)


def test_what_is_left_out_is_in_the_docs() -> None:
    """A reason outlives its command otherwise."""
    commands = [command for _, command in documented()]
    assert not [name for name in ELSEWHERE if not any(command.startswith(name) for command in commands)]

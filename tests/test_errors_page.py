"""The catalogue of errors quotes messages of the source, and leaves out no module that refuses something."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.documents import ROOT

PAGE = ROOT / "docs" / "errors.md"
PACKAGES = ("interv", "interv_cli", "methods", "studies")
# Where what a user gives enters: every module there that raises has an entry.
ROOMS = ("interv/", "methods/", "interv_cli/", "studies/own/", "studies/run/", "studies/tasks/examples_file/")
INSIDE = ("super().__init__",)  # where an error of the toolkit's own writes its message
LEAST = 12  # letters of its own, without which a message could be any text


def template(node: ast.expr) -> str | None:
    """A message as a pattern, with anything where a value stands; None where it is made elsewhere."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.escape(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(template(part) or ".*" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return (template(node.left) or ".*") + (template(node.right) or ".*")
    return None


def raised(file: Path) -> Iterator[str]:
    """The messages of the errors that a module raises or makes, as patterns."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        call = node.exc if isinstance(node, ast.Raise) else node
        made = isinstance(call, ast.Call) and (isinstance(node, ast.Raise) or ast.unparse(call.func) in INSIDE)
        if made and call.args:
            pattern = template(call.args[0])
            if pattern is not None and sum(map(str.isalpha, pattern)) >= LEAST:
                yield pattern


@cache
def messages() -> dict[str, list[str]]:
    files = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
    found = {str(file.relative_to(ROOT)): [*raised(file)] for file in files}
    return {name: patterns for name, patterns in found.items() if patterns}


def quoted() -> list[str]:
    """What the page quotes, each behind the dash of a list and between one or two backticks."""
    return [text for _, text in re.findall(r"^- (`+)(.+)\1$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)]


def sources_of(message: str) -> list[str]:
    """The modules that may raise this message."""
    return [
        name
        for name, patterns in messages().items()
        if any(re.fullmatch(pattern, message, re.DOTALL) for pattern in patterns)
    ]


@pytest.mark.parametrize("message", quoted())
def test_what_is_quoted_is_a_message_of_the_source(message: str) -> None:
    assert sources_of(message)


@pytest.mark.parametrize("message", ["Site(40) is not in this model.", "something else", "[1, 2]"])
def test_what_no_module_says_is_found(message: str) -> None:
    assert not sources_of(message)


def test_every_module_that_refuses_something_has_an_entry() -> None:
    covered = {name for message in quoted() for name in sources_of(message)}
    missing = sorted(name for name in set(messages()) - covered if name.startswith(ROOMS))
    assert not missing, f"docs/errors.md quotes no message of {missing}"

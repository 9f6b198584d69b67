"""The files that a repository is expected to have say what is so."""

import re
import tomllib
from pathlib import Path

from interv_cli.commands import COMMANDS
from studies.tasks.examples_file.row import KNOWN

ROOT = Path(__file__).parents[2]


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_pre_commit_runs_what_make_check_runs() -> None:
    target = text("Makefile").partition("\ncheck:")[2].partition("\n\n")[0]
    made = re.findall(r"\$\(BIN\)/(.+)", target)
    entries = re.findall(r"entry: \.venv/bin/(.+)", text(".pre-commit-config.yaml"))
    assert made
    assert entries == made


def test_version_and_licence_are_the_same_everywhere() -> None:
    project = tomllib.loads(text("pyproject.toml"))["project"]
    cited = dict(re.findall(r"^(version|license): (.+)$", text("CITATION.cff"), re.MULTILINE))
    assert cited["version"] == project["version"]
    assert cited["license"] in project["license"]
    assert f"## {project['version']}" in text("CHANGELOG.md")


def test_every_field_of_a_row_is_in_the_docs() -> None:
    page = text("docs/command-line.md")
    assert not [name for name in KNOWN if f"`{name}`" not in page]


def test_every_command_is_in_the_changelog() -> None:
    assert not [command.name for command in COMMANDS if f"`{command.name}`" not in text("CHANGELOG.md")]


def test_every_package_of_the_wheel_is_typed() -> None:
    settings = tomllib.loads(text("pyproject.toml"))["tool"]
    for package in settings["mypy"]["packages"]:
        assert (ROOT / package / "py.typed").is_file()
        assert "py.typed" in settings["setuptools"]["package-data"][package]

"""Imports run downwards: from the questions to the model, and never back up."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# From the top to the ground. A module imports from its own room and from the rooms of lower floors.
FLOORS = (
    ("interv_cli", "interv_harnesses"),  # the command line, and the doors for other programs
    ("studies",),  # the questions
    ("studies.own",),
    ("studies.calibrate", "studies.timing"),
    ("studies.report",),
    ("studies.run",),
    ("studies.foresight",),
    ("studies.fit",),
    ("studies.tasks",),
    ("studies.judges",),
    ("studies.smol_world", "studies.tiny_world"),
    ("studies.measure", "studies.recipes"),
    ("methods",),
    ("methods.contrasts",),
    ("interv",),  # the model, and the face
    ("interv.running",),
    ("interv.attention",),
    ("interv.prompts", "interv.ops"),
    ("interv.models", "interv.display"),
    ("interv.places", "interv.assembled"),
    ("interv.progress",),
)
ROOMS = ("interv", "interv_cli", "interv_harnesses", "methods", "studies")
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def room_of(module: str) -> str:
    """The innermost room of the list that the module lies in."""
    parts = module.split(".")
    return next(name for n in range(len(parts), 0, -1) if (name := ".".join(parts[:n])) in FLOOR)


def imported(source: str) -> Iterator[str]:
    """The project's own modules that a source imports, anywhere in it."""
    for node in ast.walk(ast.parse(source)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.module, "imports are absolute here"
            # `from studies.report.figures import style` imports a module, `from interv import VLM` a name.
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (name for name in names if name.split(".")[0] in ROOMS)


def climbs(module: str, source: str) -> list[str]:
    """The imports of a module that lead up, or to another room of its own floor."""
    own = room_of(module)
    return [name for name in imported(source) if (other := room_of(name)) != own and FLOOR[other] <= FLOOR[own]]


def sources() -> dict[str, str]:
    files = (file for folder in ROOMS for file in (ROOT / folder).rglob("*.py"))
    return {
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file.read_text()
        for file in files
    }


def test_every_import_runs_downwards() -> None:
    upward = [f"{module} -> {name}" for module, source in sources().items() for name in climbs(module, source)]
    assert not upward, f"These imports climb; move what they need down, or the importer up: {upward}"


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("studies.tasks.pope.files", "from studies.run.results import write_json"),
        ("studies.measure.tables", "from studies import compare"),
        ("studies.measure.tables", "import studies.recipes"),
        ("methods.contrasts.capture", "from methods.l2s import L2S"),
        ("interv.vlm", "def late():\n    from methods import L2S"),
    ],
)
def test_an_import_that_climbs_is_found(module: str, line: str) -> None:
    assert climbs(module, sources()[module] + "\n" + line)


def test_no_two_modules_import_each_other() -> None:
    files = sources()
    uses = {module: {_file(name, files) for name in imported(source)} - {module} for module, source in files.items()}
    while free := [module for module, needed in uses.items() if not needed & uses.keys()]:
        for module in free:
            del uses[module]
    assert not uses, f"These modules lie on a circle, or above one: {sorted(uses)}"


def _file(name: str, files: dict[str, str]) -> str:
    """The module that an imported name is, or stands in."""
    return name if name in files else name.rpartition(".")[0]


def test_no_file_is_longer_than_a_screen_can_teach() -> None:
    long = {module: lines for module, source in sources().items() if (lines := source.count("\n")) > 250}
    assert not long, f"A file holds one idea in at most 250 lines: {long}"

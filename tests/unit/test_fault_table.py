"""The table of planted faults in the docs has every fault that there is, with the laws that are named for it."""

import re
from pathlib import Path

from tests.mutation.run import FAULTS, LAWS
from tests.mutation.table import kept, written

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "laws.md").read_text(encoding="utf-8")
AGAIN = "run python -m tests.mutation.table --missing"


def named(laws: tuple[str, ...]) -> str:
    """The numbers of the laws that a fault names, all of which must find it."""
    return ", ".join(dict.fromkeys(law.split()[0] for law in laws))


def test_every_fault_is_in_the_table_with_its_laws() -> None:
    there = {fault.name: named(fault.laws) for fault in FAULTS}
    assert kept(PAGE) == there, AGAIN


def test_the_table_is_as_it_would_be_written() -> None:
    assert written(PAGE, kept(PAGE)) == PAGE, AGAIN


def test_the_readme_counts_them() -> None:
    told = re.search(r"find (\d+) of\s+(\d+) planted faults", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert told
    assert {int(number) for number in told.groups()} == {len(FAULTS)}


def test_a_fault_that_no_law_found_is_not_taken_for_one_that_was() -> None:
    page = written(PAGE, {"one": "3, 4", "another": ""})
    assert f"1 of 2 faults are found, by {len(LAWS)} checks" in page
    assert kept(page) == {"one": "3, 4", "another": ""}

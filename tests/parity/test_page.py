"""docs/reproduction.md names tests: they exist."""

import re
from pathlib import Path

FOLDER = Path(__file__).parent


def test_every_test_that_the_page_names_exists():
    page = (FOLDER.parents[1] / "docs" / "reproduction.md").read_text()
    defined = {name for file in FOLDER.glob("test_*.py") for name in re.findall(r"def (test_\w+)", file.read_text())}
    named = set(re.findall(r"`(test_\w+)`", page))
    assert len(named) > 30
    assert named <= defined, named - defined
    assert {FOLDER / file for file in re.findall(r"`(test_\w+\.py)`", page)} <= set(FOLDER.glob("*.py"))

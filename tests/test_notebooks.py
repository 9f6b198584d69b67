"""The notebooks run from their first cell to the last in a kernel of their own, and find what they say."""

import json

import pytest

from tests.documents import ROOT
from tests.notebooks import FOLDER, run

# By the notebook's name: what holds behind its last cell.
FOUND = {
    "first_steering": """
assert right(before) + 3 <= right(by_l2s) <= right(told)
assert abs(right(by_mean) - right(before)) <= 3
assert alike.mean() > 0.5
""",
    "hooks": """
assert all(changed.values())
assert abs(moved[-1] - 1) < 0.05  # the last block's state is all that the logits see
assert moved[0] < 0.5
assert {row for row, _ in seen} == {*range(8)}
assert all(0 < share < 1 for share in on_image)
""",
    "will_it_help": """
assert told.probe.value > told.unsteered.value
assert len(blocks) == vlm.n_layers
""",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FOUND)
def test_all_cells_run_and_find_what_the_notebook_says(name: str) -> None:
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    run(FOLDER / f"{name}.ipynb", FOUND[name])


def test_every_notebook_is_run_and_listed_on_its_page() -> None:
    page = (ROOT / "docs" / "notebooks.md").read_text(encoding="utf-8")
    names = {file.stem for file in FOLDER.glob("*.ipynb")}
    assert names == {*FOUND}
    assert not [name for name in names if f"(../notebooks/{name}.ipynb)" not in page]


@pytest.mark.parametrize("name", FOUND)
def test_a_notebook_is_kept_with_what_its_cells_show(name: str) -> None:
    """So that it can be read where nothing runs; no cell is kept that failed."""
    cells = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert outputs, "run python -m tests.notebooks"
    assert {one["output_type"] for one in outputs} <= {"stream", "display_data", "execute_result"}
    assert not [one for one in outputs if one.get("name") == "stderr"]

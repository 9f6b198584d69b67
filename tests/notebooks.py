"""`python -m tests.notebooks`: run every notebook, or those that are named, each in a kernel of its own, and keep what
its cells show.
"""

import sys
import warnings
from pathlib import Path
from typing import Any

from tests.documents import ROOT

FOLDER = ROOT / "notebooks"
SECONDS = 600  # for one cell, on a machine that others use too


def run(file: Path, check: str = "") -> Any:
    """The notebook with its outputs; `check` is a last cell, which is not kept. Raises where a cell does."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(file, as_version=4)
    if check:
        notebook.cells.append(nbformat.v4.new_code_cell(check))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the kernel's sockets
        client = NotebookClient(notebook, timeout=SECONDS, record_timing=False, resources={"metadata": {"path": ROOT}})
        client.execute()
    return notebook


def kept(output: Any) -> bool:
    """Whether it is the same everywhere: warnings and bars of progress are of one machine at one time."""
    if output.output_type == "display_data":
        return "image/png" in output.data
    return output.get("name") != "stderr"


def main() -> None:
    import nbformat

    for file in [FOLDER / f"{name}.ipynb" for name in sys.argv[1:]] or sorted(FOLDER.glob("*.ipynb")):
        notebook = run(file)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs = [one for one in cell.outputs if kept(one)]
        notebook.metadata.pop("language_info", None)
        nbformat.write(notebook, file)
        print(f"{file.name}: {len(notebook.cells)} cells")


if __name__ == "__main__":
    main()

"""`python -m tests.mutation.table`: which of the laws that are named for a fault find it, into docs/laws.md."""

import re
from pathlib import Path

import torch
from rich.progress import track

from tests.mutation.run import FAULTS, LAWS, finds, survives
from tests.tiny_models import RANDOM, build

PAGE = Path(__file__).parents[2] / "docs" / "laws.md"
BEGIN, END = "<!-- made by tests/mutation/table.py -->\n", "<!-- end -->"


def main() -> None:
    torch.set_num_threads(1)
    for name in RANDOM:
        for law in LAWS:
            if error := survives(law, build(name)):
                raise AssertionError(f"{law!r} does not hold even without faults, on {name}") from error
    found = {}
    for fault in track(FAULTS, "Asking the laws"):
        numbers = [law.split()[0] for law in fault.laws if finds(law, fault)]
        found[fault.name] = list(dict.fromkeys(numbers))
    killed = sum(map(bool, found.values()))
    rows = [f"| {name} | {', '.join(laws) or 'NONE'} |" for name, laws in found.items()]
    head = f"{killed} of {len(found)} faults are found, by {len(LAWS)} checks of the fourteen laws."
    table = "\n".join([head, "", "| fault | found by law |", "| --- | --- |", *rows, ""])
    page = PAGE.read_text()
    PAGE.write_text(re.sub(f"{BEGIN}.*{END}", lambda _: BEGIN + table + END, page, flags=re.DOTALL))


if __name__ == "__main__":
    main()

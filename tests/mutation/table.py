"""`python -m tests.mutation.table`: which of the laws that are named for a fault find it, into docs/laws.md.

With --missing only faults that the page lacks are asked for, and the laws that they name are seen to hold without them.
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.progress import track

from tests.mutation.run import FAULTS, LAWS, finds, survives
from tests.tiny_models import RANDOM, build

PAGE = Path(__file__).parents[2] / "docs" / "laws.md"
BEGIN, END = "<!-- made by tests/mutation/table.py -->\n", "<!-- end -->"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--missing", action="store_true", help="ask for the faults that the page lacks alone")
    torch.set_num_threads(1)
    page = PAGE.read_text(encoding="utf-8")
    known = kept(page) if parser.parse_args(arguments).missing else {}
    asked = [fault for fault in FAULTS if fault.name not in known]
    for name in RANDOM:
        for law in {law for fault in asked for law in fault.laws} if known else LAWS:
            if error := survives(law, build(name)):
                raise AssertionError(f"{law!r} does not hold even without faults, on {name}") from error
    found = {}
    for fault in track(asked, "Asking the laws"):
        numbers = [law.split()[0] for law in fault.laws if finds(law, fault)]
        found[fault.name] = ", ".join(dict.fromkeys(numbers))
    PAGE.write_text(written(page, {fault.name: (known | found)[fault.name] for fault in FAULTS}), encoding="utf-8")


def kept(page: str) -> dict[str, str]:
    """The numbers of the laws that found each fault, as the page has them; "NONE" is none."""
    table = page.partition(BEGIN)[2].partition(END)[0]
    rows = re.findall(r"^\| (.+) \| ([\d, ]+|NONE) \|$", table, re.MULTILINE)
    return {name: laws.replace("NONE", "") for name, laws in rows}


def written(page: str, found: dict[str, str]) -> str:
    """The page with this table in the place of its own."""
    killed = sum(map(bool, found.values()))
    head = f"{killed} of {len(found)} faults are found, by {len(LAWS)} checks of the fourteen laws."
    rows = [f"| {name} | {laws or 'NONE'} |" for name, laws in found.items()]
    table = "\n".join([head, "", "| fault | found by law |", "| --- | --- |", *rows, ""])
    return re.sub(f"{BEGIN}.*{END}", lambda _: BEGIN + table + END, page, flags=re.DOTALL)


if __name__ == "__main__":
    main()

"""`python -m tests.mutation.table`: which law finds which fault, as Markdown. Every law is asked about every fault."""

import torch
from rich.console import Console
from rich.progress import track

from tests.mutation.run import FAULTS, LAWS, finds, survives
from tests.tiny_models import RANDOM, build


def main() -> None:
    torch.set_num_threads(1)
    console = Console(stderr=True)
    for name in RANDOM:
        for law in LAWS:
            if error := survives(law, build(name)):
                raise AssertionError(f"{law!r} does not hold even without faults, on {name}") from error
    print(f"| fault | found by (of {len(LAWS)} laws) |\n|---|---|")
    for fault in track(FAULTS, "Asking the laws", console=console):
        laws = [law for law in LAWS if finds(law, fault)]
        print(f"| {fault.name} | {'; '.join(laws) or 'NONE'} |", flush=True)


if __name__ == "__main__":
    main()

"""`interv fit`: from a file of examples to a folder with a steerer and its card."""

from typing import Annotated, Any

import tyro

from studies.own import FitArguments, fit
from studies.own.card import lines_of


def fit_command(arguments: Annotated[FitArguments, tyro.conf.arg(name="")]) -> dict[str, Any]:
    """Fit, choose, judge on held-out rows, and write the folder. A run that was killed goes on where it stopped."""
    card = fit(arguments)
    print("\n".join(lines_of(card, arguments.method)))
    left_out = card["data"]["left_out"]
    if left_out:
        print(f"{left_out:,} rows could not be used: interv check {arguments.data}")
    print(f"The steerer and its card are in {arguments.out}; ask it: interv ask {arguments.out} photo.png 'question'")
    return {"out": str(arguments.out)} | card

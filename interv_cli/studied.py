"""The studies as commands: `compare`, `sweep`, `calibrate`, `look`."""

from typing import Annotated, Any

import tyro

from studies import calibration, layer_sweep, strength_sweep
from studies import compare as comparison
from studies import look as looking

Flat = tyro.conf.arg(name="")


def compare(arguments: Annotated[comparison.Arguments, Flat]) -> Any:
    """Every method on one task, its layers and strength chosen on validation alone."""
    return comparison.compare(arguments)


def calibrate(arguments: Annotated[calibration.Arguments, Flat]) -> Any:
    """The search for layers and strength, held against the whole grid."""
    return calibration.calibration(arguments)


def look(arguments: Annotated[looking.Arguments, Flat]) -> Any:
    """One image and question, block by block, unsteered and steered."""
    return looking.look(arguments)


def sweep(
    over: Annotated[
        Annotated[layer_sweep.Arguments, tyro.conf.subcommand("layers")]
        | Annotated[strength_sweep.Arguments, tyro.conf.subcommand("strengths")],
        Flat,
    ],
) -> Any:
    """Every pair of layers, or every strength."""
    if isinstance(over, layer_sweep.Arguments):
        return layer_sweep.layer_sweep(over)
    return strength_sweep.strength_sweep(over)

"""One's own examples, from a file to a steerer with its card, and on to questions answered with it."""

from studies.own.arguments import FitArguments
from studies.own.ask_file import ask_file
from studies.own.fit import fit
from studies.own.steered import Steered

__all__ = ["FitArguments", "Steered", "ask_file", "fit"]

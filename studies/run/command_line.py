"""The command line of every study: its arguments, and one line where it cannot run."""

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import tyro

T = TypeVar("T")


def run_study(name: str, study: Callable[[T], Any], arguments: type[T], doc: str | None) -> None:
    """Run `study` with the arguments that were typed. What a user can mend ends it with its message alone."""
    try:
        study(tyro.cli(arguments, description=doc))
    except (ValueError, RuntimeError, OSError, ModuleNotFoundError) as error:
        sys.exit(f"{name}: {error}")

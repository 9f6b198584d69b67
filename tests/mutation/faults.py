"""Faults to plant: each replaces one function of the package by one that is wrong, and names the laws that find it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

Plant = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Fault:
    """What is wrong, how to make it so, and laws of which each must notice."""

    name: str
    plant: Plant
    laws: tuple[str, ...]


FAULTS: list[Fault] = []


def fault(name: str, *laws: str) -> Callable[[Plant], Plant]:
    """The decorated function plants the fault, which each of these laws finds."""

    def note(plant: Plant) -> Plant:
        FAULTS.append(Fault(name, plant, laws))
        return plant

    return note


def around(patch: pytest.MonkeyPatch, owner: Any, name: str, wrong: Callable[..., Any]) -> None:
    """Replace a function or method by `wrong(original, *args)`."""
    original = vars(owner)[name]
    patch.setattr(owner, name, lambda *args, **named: wrong(original, *args, **named))

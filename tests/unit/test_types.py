"""Shapes and types are really checked while these tests run: a wrong one is refused where it enters."""

import pytest
import torch
from jaxtyping import TypeCheckError

from interv import Add, Site
from interv.places.scope import Step, last_position
from methods import Contrasts, Query


def test_a_wrong_number_of_axes_is_a_type_error() -> None:
    with pytest.raises(TypeCheckError, match="vector"):
        Add(Site(0), torch.ones(1, 2, 3))


def test_a_wrong_kind_of_number_is_a_type_error() -> None:
    with pytest.raises(TypeCheckError, match="mask"):
        last_position(torch.ones(2, 3))


def test_axes_with_one_name_must_agree() -> None:
    flags = torch.ones(2, 3, dtype=torch.bool)
    with pytest.raises(TypeCheckError, match="generated"):
        Step(flags, flags, flags, torch.ones(2, 4, dtype=torch.bool), frozenset())


def test_rows_of_contrasts_must_agree() -> None:
    rows = torch.ones(4, 8)
    with pytest.raises(TypeCheckError, match="negative"):
        Contrasts(rows, rows, torch.ones(3, 8), ("",) * 4, ("",) * 4, 0, 0, "")


def test_a_query_is_a_batch() -> None:
    with pytest.raises(TypeCheckError, match="context"):
        Query(torch.ones(8))


def test_an_unknown_scope_is_a_type_error() -> None:
    with pytest.raises(TypeCheckError, match="scope"):
        Add(Site(0), torch.ones(8), "reply")

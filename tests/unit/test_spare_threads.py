"""How many threads of torch a model is given on a machine that others use too."""

import os

import pytest
import torch

from interv import VLM
from interv.models.threads import spare_threads

LARGE = 7_000_000_000


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Eight processors, of which nothing is busy, and nobody who set a number."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(8), raising=False)
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0), raising=False)
    return monkeypatch


@pytest.mark.parametrize(("busy", "threads"), [(0.2, 8), (2.8, 5), (6.9, 1), (30.0, 1)])
def test_a_large_model_leaves_busy_processors_alone(machine: pytest.MonkeyPatch, busy: float, threads: int) -> None:
    machine.setattr(os, "getloadavg", lambda: (busy, 9.0, 9.0), raising=False)
    assert spare_threads(LARGE) == threads


@pytest.mark.usefixtures("machine")
def test_a_small_model_gets_one() -> None:
    assert spare_threads(1_100_000) == 1


def test_what_the_user_set_is_kept(machine: pytest.MonkeyPatch) -> None:
    machine.setenv("OMP_NUM_THREADS", "3")
    assert spare_threads(LARGE) == torch.get_num_threads()


def test_loading_sets_the_threads_that_were_asked_for(machine: pytest.MonkeyPatch) -> None:
    for asked, found in ((2, 2), ("spare", 1), (None, 1)):
        VLM.load("tiny-llava", threads=asked)
        assert torch.get_num_threads() == found

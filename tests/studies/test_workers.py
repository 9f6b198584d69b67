"""Several processes give the rows of one, in its order, and end with the study however it ends."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from studies.run import answer as run
from studies.run.answer import spread
from studies.run.checkpoint import Checkpoint
from studies.run.work import replied
from studies.run.workers import RayActors, Worker, devices, in_order, working
from studies.strength_sweep import Arguments, strength_sweep

pytestmark = pytest.mark.slow

SMALL = Arguments(methods=("L2S", "P2S"), strength=(0.3, 1.0), limit=3, screen=1, shown=1, batch_size=4)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    strength_sweep(replace(SMALL, out=folder))
    return folder


def same_rows_elsewhere(alone: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, **changes) -> None:
    here = []
    monkeypatch.setattr(run, "replied", lambda *about: here.append(about) or replied(*about))
    strength_sweep(replace(SMALL, out=folder, **changes))
    assert not here, "the study's own process decoded"
    for name in ("rows.jsonl", "table.json", "curves.json"):
        assert (folder / name).read_bytes() == (alone / name).read_bytes(), name


def test_two_processes_write_the_rows_of_one(alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    same_rows_elsewhere(alone, tmp_path, monkeypatch, workers=2)


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install 'interv[ray]'")
def test_two_ray_actors_write_the_rows_of_one(alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    same_rows_elsewhere(alone, tmp_path, monkeypatch, workers=2, ray="local")


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray_the_error_says_what_to_install() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'interv\[ray\]'"):
        RayActors(Checkpoint(), "", "auto")


def test_a_killed_study_leaves_no_worker_behind() -> None:
    program = (
        "import os, signal\n"
        "from studies.run.checkpoint import Checkpoint\n"
        "from studies.run.workers import Processes\n"
        "if __name__ == '__main__':\n"
        "    workers = Processes(Checkpoint(), Checkpoint().load().fingerprint, 1)\n"
        "    print(workers._pool.submit(os.getpid).result(), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = str(Path(__file__).parents[2])
    study = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": root}, stdout=subprocess.PIPE, timeout=120
    )
    assert study.returncode == -signal.SIGKILL
    worker = int(study.stdout)
    until = time.monotonic() + 20
    while (alive := runs(worker)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not alive


def runs(process: int) -> bool:
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_worker_with_other_weights_is_refused() -> None:
    with pytest.raises(ValueError, match="give every machine the same weights"):
        Worker(Checkpoint(), "0123456789abcdef")
    Worker(Checkpoint(), Checkpoint().load().fingerprint)


@given(st.permutations(range(7)), st.integers(1, 8))
def test_results_come_in_the_order_of_the_units_and_few_are_waited_for(ends: list[int], ahead: int) -> None:
    futures: list[Future] = []

    def submit(unit: bytes) -> Future:
        futures.append(Future())
        assert len(futures) - len(taken) <= ahead + 1
        if len(futures) > ahead or len(futures) == len(ends):
            for place in ends:  # whatever order they end in
                if place < len(futures) and not futures[place].done():
                    futures[place].set_result(place)
        return futures[-1]

    taken: list[int] = []
    for result in in_order(submit, (b"" for _ in ends), ahead):
        taken.append(result)
    assert taken == sorted(ends)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.integers(1, 9))
def test_spreading_keeps_every_group_in_its_place(sizes: list[int], workers: int) -> None:
    work = [
        ([f"chunk {number}"], [[f"{number}.{group}"] for group in range(size)]) for number, size in enumerate(sizes)
    ]
    parts = spread(work, workers)
    flat = [(chunk, group) for chunk, groups in work for group in groups]
    assert [(chunk, group) for chunk, groups in parts for group in groups] == flat
    # Enough parts for all workers if there are as many groups, and none where there are chunks for all.
    assert len(parts) >= min(workers, len(work))
    assert all(groups for _, groups in parts)
    assert len(parts) == len(work) or len(work) < workers
    if len(work) == 1:
        assert len(parts) >= min(workers, len(flat)) / 2


def test_workers_take_the_cuda_devices_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert devices("cuda", 3) == ["cuda:0", "cuda:1", "cuda:0"]
    assert devices("cuda:1", 2) == ["cuda:1", "cuda:1"]
    assert devices("cpu", 2) == ["cpu", "cpu"]


def test_fewer_workers_than_one_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 worker, not 0"), working(Checkpoint(), "", 0, None):
        pass
    with working(Checkpoint(), "", 1, None) as workers:
        assert workers is None

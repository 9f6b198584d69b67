"""Several processes that decode for one study: on this machine, or on a Ray cluster.

The study's own process captures, fits and writes; it alone has the result folder open. Workers load the model once and
answer units of work, whose replies come back in the order in which they were handed out. So the rows are those of a
single process, line by line, and a run may be resumed with another number of workers.
"""

import itertools
import os
import pickle
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import fields, replace
from importlib import import_module
from multiprocessing import get_context, parent_process
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import torch

from studies.run.checkpoint import Checkpoint
from studies.run.work import Job, Unit, replied

AHEAD = 2  # units that lie ready for each worker, so that none waits for the next
T = TypeVar("T")


class Worker:
    """A process's model, and the job that it was last given. Raises ValueError for weights that are not the study's."""

    def __init__(self, checkpoint: Checkpoint, fingerprint: str) -> None:
        self._vlm = checkpoint.load()
        if self._vlm.fingerprint != fingerprint:
            raise ValueError(
                f"A worker loaded {checkpoint.model} with the fingerprint {self._vlm.fingerprint}, the study works "
                f"with {fingerprint}: give every machine the same weights."
            )
        self._number, self._job = -1, Job((), 0, {})

    def answers(self, number: int, job: bytes | Path, unit: bytes) -> list[list[str]]:
        """The replies to a pickled unit of the pickled job of this number, which is unpacked once."""
        if number != self._number:
            self._number, self._job = number, pickle.loads(job if isinstance(job, bytes) else job.read_bytes())
        return list(replied(self._vlm, self._job, pickle.loads(unit)))


class Processes:
    """Workers on this machine, each a process of its own; on CUDA they take the machine's devices in turn."""

    def __init__(self, checkpoint: Checkpoint, fingerprint: str, workers: int) -> None:
        threads = checkpoint.threads or max(1, torch.get_num_threads() // workers)
        spawning = get_context("spawn")
        places = spawning.SimpleQueue()
        for place in devices(checkpoint.device, workers):
            places.put(replace(checkpoint, device=place, threads=threads))
        self.count = workers
        self._pool = ProcessPoolExecutor(workers, spawning, _start, (places, fingerprint))
        self._jobs, self._folder = itertools.count(), TemporaryDirectory(prefix="interv-")

    def answers(self, job: Job, units: Iterable[Unit]) -> Iterator[list[list[str]]]:
        number = next(self._jobs)
        file = Path(self._folder.name) / str(number)  # on disk once, since a job's methods may be many and large
        file.write_bytes(pickle.dumps(job))
        pickled = (pickle.dumps(unit) for unit in units)
        yield from in_order(lambda unit: self._pool.submit(_answers, number, file, unit), pickled, AHEAD * self.count)
        file.unlink()

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._folder.cleanup()


class RayActors:
    """Workers of a Ray cluster, an actor each with a core, and a GPU where the study runs on one.

    Every machine of the cluster has this package and the model. Raises ModuleNotFoundError without Ray.
    """

    def __init__(self, checkpoint: Checkpoint, fingerprint: str, address: str, workers: int | None = None) -> None:
        try:
            self._ray = import_module("ray")
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "Ray is not installed, and --ray needs it: pip install 'interv[ray]', on every machine of the cluster."
            ) from error
        own = {"include_dashboard": False} if address == "local" else {}  # a cluster that is there has its own
        self._ray.init(address=address, ignore_reinit_error=True, log_to_driver=False, **own)
        there = self._ray.cluster_resources().get("GPU" if checkpoint.on_gpu else "CPU", 1)
        self.count = workers or max(1, int(there))
        actor = self._ray.remote(num_cpus=1, num_gpus=int(checkpoint.on_gpu))(Worker)
        self._actors = [actor.remote(checkpoint, fingerprint) for _ in range(self.count)]
        self._jobs = itertools.count()

    def answers(self, job: Job, units: Iterable[Unit]) -> Iterator[list[list[str]]]:
        number, stored = next(self._jobs), self._ray.put(pickle.dumps(job))
        turn = itertools.count()

        def submit(unit: bytes) -> "Future[list[list[str]]]":
            actor = self._actors[next(turn) % self.count]
            return actor.answers.remote(number, stored, unit).future()

        yield from in_order(submit, (pickle.dumps(unit) for unit in units), AHEAD * self.count)

    def close(self) -> None:
        self._ray.shutdown()


@contextmanager
def working(
    checkpoint: Checkpoint, fingerprint: str, workers: int | None, ray: str | None
) -> Iterator[Processes | RayActors | None]:
    """The workers that were asked for, ended with the block; None for the study's own process alone.

    `fingerprint` is that of the model which the study itself has loaded. Raises ValueError for fewer workers than one.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"A study needs at least 1 worker, not {workers}.")
    if ray is None and (workers or 1) == 1:
        yield None
        return
    # A study's own arguments are a class of its script, which a worker does not import.
    plain = Checkpoint(**{field.name: getattr(checkpoint, field.name) for field in fields(Checkpoint)})
    count = workers or 1
    crew = Processes(plain, fingerprint, count) if ray is None else RayActors(plain, fingerprint, ray, workers)
    try:
        yield crew
    finally:
        crew.close()


def in_order(submit: Callable[[bytes], "Future[T]"], units: Iterable[bytes], ahead: int) -> Iterator[T]:
    """The units' results in the units' order, at most `ahead` of them handed out and not yet taken."""
    waiting: deque[Future[T]] = deque()
    for unit in units:
        waiting.append(submit(unit))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def devices(device: str, workers: int) -> list[str]:
    """A device for each worker: CUDA's in turn where "cuda" names no one of them."""
    if device != "cuda":
        return [device] * workers
    return [f"cuda:{number % max(1, torch.cuda.device_count())}" for number in range(workers)]


_worker: Worker


def _start(places: Any, fingerprint: str) -> None:
    global _worker
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker = Worker(places.get(), fingerprint)


def _answers(number: int, job: Path, unit: bytes) -> list[list[str]]:
    return _worker.answers(number, job, unit)


def _end_with_parent() -> None:
    """A study that is killed cannot end its workers, and an idle one waits for work for ever, its model in memory."""
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)

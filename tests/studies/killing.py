"""Run a small study, kill it at random moments, resume it each time, and say what differs from an undisturbed run.

    python -m tests.studies.killing FOLDER --kills 20 --torn 10

Every run is a process of its own, forked from this one, which spares it the imports. SIGKILL comes after a random time,
or ("torn") in the middle of a write, at a random byte of the rows.
"""

import argparse
import json
import os
import random
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import torch
from matplotlib.figure import Figure
from PIL import Image

from studies.run import results
from studies.strength_sweep import Arguments, strength_sweep

STUDY = Arguments(methods=("MeanSteering", "L2S"), strength=(0.3, 1.0), limit=2, screen=1, shown=1, batch_size=32)
COMPARED = ("rows.jsonl", "table.json", "curves.json", "choices.json")
ROWS = "rows.jsonl"


Run = Callable[[Path, int | None], None]  # a folder, and the byte of its lines at which the process ends


class Torn:
    """A stream whose process kills itself once this many bytes are written, be it within a line."""

    def __init__(self, stream: IO[bytes], left: int) -> None:
        self._stream, self._left = stream, left

    def write(self, line: bytes) -> None:
        self._stream.write(line[: self._left])
        if len(line) > self._left:
            self._stream.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        self._left -= len(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def tear(module: Any, name: str, byte: int | None) -> None:
    """Let this process kill itself at a byte of what the module writes to the file of this name."""
    if byte is not None:
        opened = module.opened
        module.opened = lambda file: Torn(opened(file), byte) if file.name == name else opened(file)


def study(folder: Path, torn_at: int | None) -> None:
    # What is drawn is no matter here, and takes most of the time.
    Figure.savefig = lambda self, file, **how: Image.new("L", (9, 9)).save(file)  # type: ignore[method-assign]
    tear(results, ROWS, torn_at)
    strength_sweep(Arguments(**vars(STUDY) | {"out": folder}))


def forked(folder: Path, torn_at: int | None = None, run: Run = study) -> int:
    """The id of a process that runs the study. It ends with 0 where the study does."""
    if process := os.fork():
        return process
    try:
        with Path(os.devnull).open("w") as silent:
            os.dup2(silent.fileno(), 1)
        run(folder, torn_at)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def ended(process: int) -> int:
    """The signal that ended the process, or 0. Raises RuntimeError where the study failed."""
    status = os.waitpid(process, 0)[1]
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise RuntimeError("The study failed; its error is above.")
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def killed(
    fresh: Callable[[], Path], earliest: float, latest: float, generator: random.Random, run: Run = study
) -> tuple[Path, float]:
    """A folder whose study was killed after a random time, and the time; a study that ended before counts for none."""
    while True:
        folder, delay = fresh(), generator.uniform(earliest, latest)
        if killed_after(delay, forked(folder, run=run)):
            return folder, delay
        earliest, latest = 0.0, delay


def killed_after(delay: float, process: int) -> bool:
    """Kill a process after so many seconds; gives whether it had not ended by itself before."""
    time.sleep(delay)
    os.kill(process, signal.SIGKILL)
    return ended(process) == signal.SIGKILL


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--torn", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    generator, numbers = random.Random(asked.seed), iter(range(10**6))
    fresh = lambda: asked.folder / str(next(numbers))  # noqa: E731
    whole, start = fresh(), time.monotonic()
    ended(forked(whole))
    longest, size = time.monotonic() - start, (whole / ROWS).stat().st_size
    moments: list[tuple[Path, str]] = []
    for kill in range(asked.kills):  # one in each part of the run
        earliest, latest = longest * kill / asked.kills, longest * (kill + 1) / asked.kills
        folder, delay = killed(fresh, earliest, latest, generator)
        moments.append((folder, f"after {delay:.2f} of {longest:.2f} s"))
    for _ in range(asked.torn):
        folder, byte = fresh(), generator.randrange(size)
        assert ended(forked(folder, byte)) == signal.SIGKILL
        moments.append((folder, f"at byte {byte} of {size}"))
    for folder, moment in moments:
        left = (folder / ROWS).stat().st_size if (folder / ROWS).exists() else 0
        ended(forked(folder))
        differing = [name for name in COMPARED if (folder / name).read_bytes() != (whole / name).read_bytes()]
        print(json.dumps({"moment": moment, "bytes": left, "of": size, "differing": differing}), flush=True)


if __name__ == "__main__":
    main()

"""The memory of this process while something runs."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Peak:
    """The most bytes that were held: by the process alone, and with the files that are mapped into its memory."""

    own: int = 0
    resident: int = 0


@contextmanager
def watched(pause: float = 0.005) -> Iterator[Peak]:
    """The peak while the block runs, looked at every `pause` seconds."""
    peak, ended = Peak(), threading.Event()

    def watch() -> None:
        while True:
            own, mapped = held()
            peak.own, peak.resident = max(peak.own, own), max(peak.resident, own + mapped)
            if ended.wait(pause):
                return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()


def held() -> tuple[int, int]:
    """Bytes that belong to the process alone, and those of files mapped into its memory."""
    status = Path("/proc/self/status").read_text()
    own, mapped = (int(status.split(f"{name}:")[1].split()[0]) * 1024 for name in ("RssAnon", "RssFile"))
    return own, mapped


@contextmanager
def clock(now: Callable[[], float] = time.perf_counter) -> Iterator[list[float]]:
    """A list that holds the block's seconds once it has ended; `time.process_time` counts the processor's alone."""
    taken: list[float] = []
    start = now()
    yield taken
    taken.append(now() - start)

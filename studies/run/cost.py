"""What a run costs: its time, its memory, and the batch size that fits into memory."""

import gc
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch

from studies.run.results import write_json
from studies.run.sizes import MOST

BatchSize = int | Literal["auto"]
FILE = "cost.json"
TOGETHER = 8  # pairs at least, where the batch has room for as many replies
T = TypeVar("T")


@dataclass(eq=False)
class Account:
    """One run's time and memory. `batch_size` falls where it is "auto" and memory runs out, and stays there.

    `earlier` are the entries of the runs that came before it in its folder, `first` is what "auto" begins with.
    """

    wanted: BatchSize
    device: torch.device
    earlier: Sequence[dict[str, Any]] = ()
    first: int = MOST
    batch_size: int = field(init=False)
    started: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        self.batch_size = self.first if self.wanted == "auto" else self.wanted
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def fit(self, work: Callable[[int], T]) -> T:
        """`work(batch_size)`, again with half the size for as long as memory runs out.

        Raises torch's own error for a batch size that was given, and RuntimeError where one reply is too much.
        """
        while True:
            try:
                return work(self.batch_size)
            except RuntimeError as error:
                if self.wanted != "auto" or not out_of_memory(error):
                    raise
                if self.batch_size == 1:
                    raise RuntimeError(
                        f"Memory runs out on {self.device} with a batch of one ({str(error).splitlines()[0]}). Load "
                        "the weights in fewer bits (--load-in-4bit), or over several devices (--device-map auto)."
                    ) from None
            # Here the error is gone, and with its frames the tensors that they held.
            self.batch_size //= 2
            gc.collect()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def fit_pairs(self, work: Callable[[int], T]) -> T:
        """As `fit`, for contrast pairs, with as many as go with so many replies."""
        return self.fit(lambda size: work(pairs_at_once(size)))

    def entry(self, replies: int) -> dict[str, Any]:
        """This run so far: seconds since it began, replies made, peak memory in bytes, and how it ran."""
        cuda = self.device.type == "cuda"
        return {
            "seconds": round(time.perf_counter() - self.started, 1),
            "replies": replies,
            "batch_size": self.batch_size,
            "device": torch.cuda.get_device_name(self.device) if cuda else str(self.device),
            "peak_bytes": torch.cuda.max_memory_allocated(self.device) if cuda else resident_peak(),
        }


def pairs_at_once(batch_size: int) -> int:
    """How many pairs go with so many replies.

    A pair is a prompt with four completions at most, whose activations stay. Of keys and values it holds one prompt's,
    so few pairs are as many as replies: fewer would decode alone where the model goes on from their forced answers.
    """
    return max(batch_size // 4, min(batch_size, TOGETHER))


def out_of_memory(error: BaseException) -> bool:
    """Whether the error says that memory ran out, on a GPU or in torch's allocator on the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def resident_peak() -> int | None:
    """The most memory that this process held, in bytes; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def note(folder: Path, account: Account, replies: int) -> None:
    """Put this run so far behind the earlier ones of the folder; a run without a reply is none."""
    if replies:
        write_json(folder / FILE, [*account.earlier, account.entry(replies)])


def noted(folder: Path) -> list[dict[str, Any]]:
    """The runs of this folder, also those that were killed."""
    return json.loads((folder / FILE).read_text(encoding="utf-8")) if (folder / FILE).exists() else []


def said(folder: Path) -> str:
    """The cost in words, "" where nothing is noted: "1,200 replies in 340 s on cpu, peak memory 0.9 GB"."""
    return "; ".join(map(_words, noted(folder)))


def _words(run: dict[str, Any]) -> str:
    text = f"{run['replies']:,} replies in {run['seconds']:,.0f} s on {run['device']}, batch size {run['batch_size']}"
    return text + (f", peak memory {run['peak_bytes'] / 1e9:.1f} GB" if run["peak_bytes"] else "")

"""Timing in turns: every contestant once a round, so that a machine that slows down slows all of them."""

import statistics
import time
from typing import Any

import torch

from studies.timing.contests import Contest


def timed(contest: Contest, rounds: int) -> list[dict[str, Any]]:
    """Median seconds of every contestant over interleaved rounds. What was run for the check was the warm-up.

    `ratio` is how often faster than the first contestant, the median of the rounds' own ratios; `low` and `high` are
    the least and the greatest of these.
    """
    rounds = min(rounds, contest.most_rounds)
    seconds: dict[str, list[float]] = {name: [] for name in contest.run}
    for _ in range(rounds):
        for name, run in contest.run.items():
            wait()
            start = time.perf_counter()
            run()
            wait()
            seconds[name].append(time.perf_counter() - start)
    first = seconds[next(iter(contest.run))]
    records = []
    for name, own in seconds.items():
        ratios = [a / b for a, b in zip(first, own, strict=True)]
        records.append(
            {
                "what": contest.what,
                "who": name,
                "seconds": statistics.median(own),
                "ratio": statistics.median(ratios),
                "low": min(ratios),
                "high": max(ratios),
                "rounds": rounds,
                "equal": contest.equal,
                **contest.numbers,
            }
        )
    return records


def wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()

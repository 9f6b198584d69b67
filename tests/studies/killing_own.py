"""Fit to a file, or ask a file of questions; kill it at random moments, start it again, and say what differs.

    python -m tests.studies.killing_own fit FOLDER --kills 20

The folder holds `data.jsonl`, and for `ask` a fitted steerer too. Every run is a process of its own, as in `killing`.
"""

import argparse
import json
import random
import time
from functools import partial
from pathlib import Path

import torch

from studies.own import FitArguments, Steered, ask_file, fit
from tests.studies.killing import Run, ended, forked, killed

COMPARED = {
    "fit": ("steerer.safetensors", "steerer.json", "work/rows.jsonl"),
    "ask": ("out.jsonl",),
}
LINES = {"fit": "work/rows.jsonl", "ask": "out.jsonl"}
TIMED = ("cost", "made_with")  # of a card: how long it took is no result


def fit_once(data: Path, folder: Path, torn_at: int | None) -> None:
    small = {"reads": (3,), "writes": (3,), "strength": (0.3, 1.0), "max_new_tokens": 12}
    fit(FitArguments(data=str(data), out=folder, model="tiny-llava", **small))


def ask_once(steerer: Path, questions: Path, folder: Path, torn_at: int | None) -> None:
    ask_file(Steered.load(steerer), questions, folder / "out.jsonl", batch_size=4)


def same(name: str, one: Path, other: Path) -> bool:
    """Whether two runs left the same file; of a card, but for what it took."""
    if name != "steerer.json":
        return (one / name).read_bytes() == (other / name).read_bytes()
    cards = [json.loads((folder / name).read_text(encoding="utf-8")) for folder in (one, other)]
    for card in cards:
        del card["sha256"]
        for field in TIMED:
            card["about"].pop(field)
    return cards[0] == cards[1]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=[*COMPARED])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    data = asked.folder / "data.jsonl"
    run: Run = partial(fit_once, data) if asked.what == "fit" else partial(ask_once, asked.folder / "steerer", data)
    generator, numbers = random.Random(asked.seed), iter(range(10**6))
    fresh = lambda: asked.folder / asked.what / str(next(numbers))  # noqa: E731
    whole, start = fresh(), time.monotonic()
    ended(forked(whole, run=run))
    longest, lines = time.monotonic() - start, LINES[asked.what]
    for kill in range(asked.kills):  # one in each part of the run
        part = longest / asked.kills
        folder, delay = killed(fresh, part * kill, part * (kill + 1), generator, run)
        left = (folder / lines).stat().st_size if (folder / lines).exists() else 0
        ended(forked(folder, run=run))
        differing = [name for name in COMPARED[asked.what] if not same(name, folder, whole)]
        told = {"moment": f"after {delay:.2f} of {longest:.2f} s", "bytes": left, "differing": differing}
        print(json.dumps(told | {"of": (whole / lines).stat().st_size}), flush=True)


if __name__ == "__main__":
    main()

"""Fit to a file, or ask a file of questions; kill it at random moments, start it again, and say what differs.

    python -m tests.studies.killing_own fit FOLDER --kills 20 --torn 5 --in-a-row 5

The folder holds `data.jsonl`, and for `ask` a fitted steerer too. What runs is the command line, a process each time,
as in `killing`: killed once after a random time, killed in the middle of a write, and one that is killed several times.
"""

import argparse
import json
import random
import signal
import time
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from interv_cli.commands import BY_NAME
from interv_cli.main import function_of
from interv_cli.main import run as typed
from tests.studies.killing import Run, ended, forked, killed, killed_after, tear

COMPARED = {
    "fit": ("steerer.safetensors", "steerer.json", "work/rows.jsonl"),
    "ask": ("out.jsonl",),
}
LINES = {"fit": "work/rows.jsonl", "ask": "out.jsonl"}
TIMED = ("cost", "made_with")  # of a card: how long it took is no result


def fit_once(data: Path, folder: Path, torn_at: int | None) -> None:
    small = ["--reads", "3", "--writes", "3", "--strength", "0.3", "1.0", "--max-new-tokens", "12", "--threads", "1"]
    tear(import_module("studies.run.results"), "rows.jsonl", torn_at)
    done(["fit", data, "--out", folder, "--model", "tiny-llava", *small])


def ask_once(steerer: Path, questions: Path, folder: Path, torn_at: int | None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tear(import_module("studies.own.ask_file"), "out.jsonl", torn_at)
    words = ["--file", questions, "--out", folder / "out.jsonl", "--batch-size", "4", "--threads", "1"]
    done(["ask", steerer, *words])


def done(words: list[Any]) -> None:
    """Run `interv` with these words. Raises RuntimeError where it ends with another code than 0."""
    if code := typed([str(word) for word in words]):
        raise RuntimeError(f"interv {words[0]} ended with {code}; its reason is above.")


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


def whole_lines(file: Path) -> tuple[int, bytes]:
    """Which file it is on the disk, and its whole lines; nothing where there is none."""
    if not file.exists():
        return 0, b""
    content = file.read_bytes()
    return file.stat().st_ino, content[: content.rfind(b"\n") + 1]


def told(folder: Path, whole: Path, what: str, moment: str, run: Run) -> dict[str, Any]:
    """Start a killed run again, and say what differs in the end from an undisturbed one.

    `kept` tells that the lines of before are the first of the same file, so that nothing was made a second time.
    """
    lines = folder / LINES[what]
    number, before = whole_lines(lines)
    size = lines.stat().st_size if number else 0
    ended(forked(folder, run=run))
    again, after = whole_lines(lines)
    return {
        "moment": moment,
        "bytes": size,
        "of": (whole / LINES[what]).stat().st_size,
        "kept": not number or (again == number and after.startswith(before)),
        "differing": [name for name in COMPARED[what] if not same(name, folder, whole)],
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=[*COMPARED])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--torn", type=int, default=1)
    parser.add_argument("--in-a-row", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    function_of(BY_NAME[asked.what])  # its imports, once here and not in every process
    data = asked.folder / "data.jsonl"
    run: Run = partial(fit_once, data) if asked.what == "fit" else partial(ask_once, asked.folder / "steerer", data)
    generator, numbers = random.Random(asked.seed), iter(range(10**6))
    fresh = lambda: asked.folder / asked.what / str(next(numbers))  # noqa: E731
    whole, start = fresh(), time.monotonic()
    ended(forked(whole, run=run))
    longest, size = time.monotonic() - start, (whole / LINES[asked.what]).stat().st_size
    for kill in range(asked.kills):  # one in each part of the run
        part = longest / asked.kills
        folder, delay = killed(fresh, part * kill, part * (kill + 1), generator, run)
        print(json.dumps(told(folder, whole, asked.what, f"after {delay:.2f} of {longest:.2f} s", run)), flush=True)
    for _ in range(asked.torn):
        folder, byte = fresh(), generator.randrange(size)
        assert ended(forked(folder, byte, run)) == signal.SIGKILL
        print(json.dumps(told(folder, whole, asked.what, f"at byte {byte} of {size}", run)), flush=True)
    if asked.in_a_row:
        folder, delays = fresh(), [generator.uniform(0.4, 0.9) * longest for _ in range(asked.in_a_row)]
        kills = [killed_after(delay, forked(folder, run=run)) for delay in delays]
        moment = f"{sum(kills)} times in a row, after {min(delays):.2f} to {max(delays):.2f} s"
        print(json.dumps(told(folder, whole, asked.what, moment, run)), flush=True)


if __name__ == "__main__":
    main()

"""Many questions answered from a file into a file, unsteered and steered; a run that was killed goes on.

Every question has one line in the end, in the order of the file: those that cannot be asked with the reason. Questions
are answered in batches that depend on the file alone, so a resumed run gives the lines of an undisturbed one.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from more_itertools import chunked

from interv.progress import track
from studies.own.steered import Steered
from studies.run.lines import opened, read_lines, write_line
from studies.run.results import write_json
from studies.tasks.examples_file import Data, read_data


def ask_file(steered: Steered, source: str | Path, out: Path, *, batch_size: int = 16) -> dict[str, int]:
    """Answer the questions of `source` into `out`; gives how many lines there are, are new, and say a reason.

    Beside `out` lies `<out>.run.json` with all that decides its lines. Raises ValueError where it holds the answers of
    another run, and RuntimeError where another process writes it.
    """
    data = read_data(source, answers=False)
    out.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{out}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RuntimeError(f"{out} is being written by another run: wait for it, or give another file.") from None
    with lock:
        _check_same(out, deciding(steered, data, batch_size))
        stream = opened(out)
        try:
            there = {line["id"] for line in read_lines(out)}
            earlier = len(there)
            for line in _lines(steered, data, batch_size, there):
                write_line(stream, line)
        finally:
            stream.close()
    lines = read_lines(out)
    return {"lines": len(lines), "new": len(lines) - earlier, "left_out": sum("reason" in line for line in lines)}


def deciding(steered: Steered, data: Data, batch_size: int) -> dict[str, Any]:
    """What decides the lines: questions, steerer, model, strength, length and batches."""
    card = {name: value for name, value in steered.card.items() if name != "about"}
    return {
        "questions": data.hash,
        "left_out": [flaw.id for flaw in data.flaws],
        "steerer": hashlib.sha256(json.dumps(card, sort_keys=True).encode()).hexdigest()[:16],
        "model": steered.vlm.fingerprint,
        "preprocessing": steered.vlm.preprocessing,
        "strength": steered.strength,
        "max_new_tokens": steered.max_new_tokens,
        "batch_size": batch_size,
    }


def _lines(steered: Steered, data: Data, batch_size: int, there: set[str]) -> Iterator[dict[str, Any]]:
    """The lines that are not there yet. A batch of which some are there runs whole, so that its bits are the same."""
    for flaw in data.flaws:
        if flaw.id not in there:
            yield {"id": flaw.id, "reason": flaw.reason}
    batches = [batch for batch in chunked(data.items, batch_size) if any(item.id not in there for item in batch)]
    for batch in track(batches, "answering"):
        for item, (plain, changed) in zip(batch, steered.replies([item.prompt for item in batch]), strict=True):
            if item.id not in there:
                line = {"id": item.id, "question": item.prompt.question, "unsteered": plain, "steered": changed}
                yield line | ({"image": str(item.prompt.image)} if isinstance(item.prompt.image, Path) else {})


def _check_same(out: Path, now: dict[str, Any]) -> None:
    about = Path(f"{out}.run.json")
    if not about.exists():
        if out.exists() and out.stat().st_size:
            raise ValueError(f"{out} is there already and says nothing of the run that wrote it; give another file.")
        write_json(about, now)
        return
    then = json.loads(about.read_text(encoding="utf-8"))
    if differing := [name for name in now if then.get(name) != json.loads(json.dumps(now[name]))]:
        raise ValueError(
            f"{out} holds the answers of another run, with another {', '.join(differing)}; give another file, or "
            f"delete it and {about.name}."
        )

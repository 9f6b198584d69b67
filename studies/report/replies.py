"""A sample of inputs with every method's reply side by side, and how often steering changed an answer."""

import base64
import io
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from more_itertools import interleave_longest, map_reduce
from PIL import Image

from studies.measure import Record, Row, group
from studies.report.naming import CONTROLS, label, listed

EFFECTS = ("changed", "corrected", "harmed")


def first_seeds(rows: Sequence[Row]) -> list[Row]:
    """The rows of each method's lowest seed, so that one reply stands for each method and input."""
    lowest: dict[tuple[Any, ...], Any] = {}
    for row in rows:
        lowest[group(row)] = min(lowest.get(group(row), row["seed"]), row["seed"])
    return [row for row in rows if row["seed"] == lowest[group(row)]]


def sample(rows: Sequence[Row], count: int, seed: int = 0) -> list[str]:
    """`count` ids at random, as evenly from each subset and behaviour as their sizes allow. No reply is looked at.

    If images were kept for some inputs alone, it is those that are drawn from.
    """
    pictured = {row["id"] for row in rows if row["image"]}
    rows = [row for row in rows if row["id"] in pictured] if pictured else rows
    cells = {row["id"]: (str(row["subset"]), str(row["behavior"])) for row in rows}
    generator = random.Random(seed)
    piles = map_reduce(sorted(cells), cells.__getitem__)
    return [*interleave_longest(*(generator.sample(piles[cell], len(piles[cell])) for cell in sorted(piles)))][:count]


def effects(rows: Sequence[Row], baseline: str = "NoSteering") -> list[Record]:
    """For each method but the baseline: of n answers, how many changed, became right, became wrong."""
    rows = first_seeds(rows)
    before = {row["id"]: row for row in rows if row["method"] == baseline}
    counts = []
    for one in listed([row for row in rows if row["method"] != baseline]):
        mine = [(row, before[row["id"]]) for row in rows if group(row) == group(one) and row["id"] in before]
        counts.append(
            {"method": one["method"], "label": label(one, rows), "n": len(mine)}
            | {name: sum(_effect(row, old, name) for row, old in mine) for name in EFFECTS}
        )
    return [count for count in counts if count["n"]]


def entries(
    folder: Path, rows: Sequence[Row], ids: Iterable[str], baseline: str = "NoSteering"
) -> list[dict[str, Any]]:
    """What the page shows of each id: image as a data URI, question, target, answers, and what steering did."""
    rows = first_seeds(rows)
    by_id = map_reduce(rows, lambda row: row["id"])
    labels = {group(row): label(row, rows) for row in listed(rows)}
    shown = []
    for id in ids:
        answers = listed(by_id[id])
        before = next((row for row in answers if row["method"] == baseline), None)
        steered = [row for row in answers if row["method"] not in (baseline, *CONTROLS)]
        happened = [name for name in EFFECTS if before and any(_effect(row, before, name) for row in steered)]
        shown.append(
            {name: answers[0][name] for name in ("id", "question", "target", "subset", "behavior")}
            | {"image": data_uri(folder, next((row["image"] for row in answers if row["image"]), ""))}
            | {"effects": happened}
            | {"answers": [_answer(row, labels[group(row)], before) for row in answers]}
        )
    return shown


def _answer(row: Row, name: str, before: Row | None) -> dict[str, Any]:
    changed = before is not None and row is not before and row["parsed"] != before["parsed"]
    return {"label": name, "reply": row["reply"], "right": row["parsed"] == row["target"], "changed": changed} | {
        "note": "not parsed" if row["parsed"] == "" else "malformed" if not row["valid"] else ""
    }


def _effect(row: Row, before: Row, name: str) -> bool:
    was, now = before["parsed"] == row["target"], row["parsed"] == row["target"]
    return {"changed": row["parsed"] != before["parsed"], "corrected": now and not was, "harmed": was and not now}[name]


def data_uri(folder: Path, name: str, largest: int = 480) -> str:
    """The image file `name` of `folder` for use inside a page; "" if it has no such image."""
    file = (folder / name).resolve()
    if not name or not file.is_relative_to(folder.resolve()):
        return ""
    try:
        image = Image.open(file).convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError):
        return ""
    kind = "PNG" if max(image.size) <= 128 else "JPEG"
    image.thumbnail((largest, largest))
    stream = io.BytesIO()
    image.save(stream, format=kind, quality=82)
    return embedded(stream.getvalue(), f"image/{kind.lower()}")


def embedded(content: bytes, kind: str) -> str:
    """Bytes as a data URI."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"

"""Small benchmarks in the official layouts: generated pictures, texts of our own."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def picture(seed: int, size: tuple[int, int] = (32, 24)) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def save_pictures(folder: Path, names: Iterable[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(names):
        picture(seed).save(folder / name)


def write_lines(file: Path, rows: Sequence[Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_json(file: Path, value: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value))


def reply_row(id: str, target: str, reply: str, parsed: str = "", **more: Any) -> dict[str, Any]:
    """A row as a study writes it, as far as metrics look."""
    row = {"id": id, "task": "t", "split": "test", "subset": "s", "behavior": target, "method": "NoSteering"}
    row |= {"strength": None, "reads": None, "writes": None, "seed": 0, "question": "?", "target": target}
    return row | {"reply": reply, "parsed": parsed, "valid": True, "image": ""} | more

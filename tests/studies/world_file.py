"""Examples of the embedded world as somebody would bring them: a JSON lines file beside a folder of PNG files."""

import json
import random
from pathlib import Path
from typing import Any

from studies.tasks import TASKS


def write_world(folder: Path, **counts: int) -> Path:
    """`data.jsonl` with so many rows of each part of the task, "train", "val" or "test", drawn over all its subsets."""
    task = TASKS["shapes_pope"]()
    (folder / "images").mkdir(parents=True)
    rows: list[dict[str, Any]] = []
    for split, count in counts.items():
        examples, pairs = task.prompts(split), task.pairs(split)  # type: ignore[arg-type]
        for place in sorted(random.Random(0).sample(range(len(examples)), count)):
            example, pair = examples[place], pairs[place]
            name = f"images/{example.id}.png"
            example.prompt.images()[0].save(folder / name)
            rows.append(
                {"id": example.id, "image": name, "question": example.prompt.question, "target": example.target}
                | {"positive": pair.positive.answer, "negative": pair.negative.answer, "behavior": example.behavior}
            )
    file = folder / "data.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def without_targets(file: Path) -> Path:
    """The same rows in a second file that says of none what a right reply is."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    other = file.with_name("no-targets.jsonl")
    bare = [{name: value for name, value in row.items() if name != "target"} for row in rows]
    other.write_text("".join(json.dumps(row) + "\n" for row in bare), encoding="utf-8")
    return other

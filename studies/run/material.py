"""What a result folder says of its task: a hash of the data, and the judges that decide or are recorded."""

import hashlib
import json
from pathlib import Path
from typing import Any, get_args

from studies.tasks import Split, Task


def data_hashes(task: Task) -> dict[str, str]:
    """How many examples each split has, and a hash of what they are: other data is another recipe."""
    parts: dict[str, Any] = {
        split: [(e.id, e.target, e.subset, e.behavior, e.prompt.question) for e in task.prompts(split)]
        for split in get_args(Split)
    }
    parts["flaws"] = [flaw.id for flaw in getattr(task, "flaws", ())]
    return {name: f"{len(part):,}, hash {_hash(part)}" for name, part in parts.items()}


def deciding_judge(task: Task) -> dict[str, Any]:
    """The task's guard, whose marks decide what is chosen; nothing where it has none."""
    guard = getattr(getattr(task, "panel", None), "guard", None)
    if guard is None:
        return {}
    named = {"name": Path(guard.name).name, "version": guard.version}
    return {"guard": named | {"form": guard.form, "examples": _hash(guard.examples)}}


def recorded_judges(task: Task) -> dict[str, Any]:
    """The judges that rate what was chosen without them, so that a later run may bring others."""
    judges = getattr(getattr(task, "panel", None), "judges", ())
    return {"judges": [{"name": judge.name, "version": judge.version} for judge in judges]} if judges else {}


def recorded_notes(task: Task) -> dict[str, Any]:
    """What is to be known of the task's data as a whole, which is said on the console too."""
    notes = list(getattr(task, "notes", ()))
    if notes:
        print("\n".join(notes))
    return {"notes": notes} if notes else {}


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode("utf-8", "backslashreplace")).hexdigest()[:12]

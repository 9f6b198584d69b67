"""What a study leaves behind: one folder with its recipe, its rows as they come, and the files made from them.

    with Results.open("results/compare/shapes_pope", settings, seeds=[0, 1, 2], fingerprint=vlm.fingerprint) as results:
        for row in rows_to_make:
            if key(row) not in results.done:
                results.append([answer(row)])
        results.write("table.json", table(read_rows(results.folder), YES_NO, skipped=len(results.skipped)))

A process may be killed at any moment. Whole lines count, a torn last line is cut off when the folder is opened again,
and every other file is replaced in one step.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

from filelock import FileLock, Timeout

from studies.measure import GROUP, Row, group
from studies.run.lines import dumps, opened, read_lines, write_line
from studies.run.provenance import commit, runs_on, versions

KEY = (*GROUP, "seed", "split", "id")
DECIDING = ("settings", "seeds", "fingerprint", "preprocessing")

_SILENT = (
    "An earlier version made it, which did not write down how prompts became inputs: that may have changed since.\n"
)


def key(row: Row) -> tuple[Any, ...]:
    """What makes a row one of a kind: the values of `KEY`."""
    return (*group(row), row["seed"], row["split"], row["id"])


class Results:
    """The folder `results/<study>/<name>/`, open for one process. Made by `Results.open`; a context manager.

    `done` holds the keys of the rows that are there, `earlier` is how many there were when the folder was opened, and
    `skipped` has the reason for each item's id that could not be run.
    """

    def __init__(self, folder: Path, lock: FileLock) -> None:
        self.folder = folder
        self._lock = lock
        self._rows = opened(folder / "rows.jsonl")
        self._skips = opened(folder / "skipped.jsonl")
        self.done: set[tuple[Any, ...]] = {key(row) for row in read_rows(folder)}
        self.earlier = len(self.done)
        self.skipped: dict[str, str] = read_skipped(folder)
        self.appended: Callable[[], object] = lambda: None  # called whenever rows were written

    @classmethod
    def open(
        cls,
        folder: str | Path,
        settings: Mapping[str, Any],
        *,
        seeds: Sequence[int] = (),
        fingerprint: str = "",
        preprocessing: Mapping[str, Any] | None = None,
        recorded: Mapping[str, Any] | None = None,
    ) -> "Results":
        """Open or create `folder` and write its `recipe.json`, or resume what a run of the same recipe left there.

        Settings, seeds, the model's fingerprint and how prompts become its inputs decide whether it is the same
        recipe. Versions, the processor with
        the threads of torch, and the commit are recorded: those of this run, and those of earlier ones under `earlier`;
        `recorded` is put beside them as it is.
        Raises ValueError if the folder holds another recipe, or rows without one, and RuntimeError if another process
        has it open.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise RuntimeError(f"{folder} is in use by a running study: wait for it, or give another folder.") from None
        try:
            recipe = json.loads(dumps({"settings": settings, "seeds": list(seeds), "fingerprint": fingerprint}))
            recipe |= {} if preprocessing is None else {"preprocessing": dict(preprocessing)}
            recipe |= {"versions": versions() | runs_on(), "commit": commit(), **(recorded or {})}
            write_json(folder / "recipe.json", _continued(folder, recipe))
            return cls(folder, lock)
        except BaseException:
            lock.release()
            raise

    def append(self, rows: Iterable[Row]) -> None:
        """Write each row as one line, flushed before the next. Raises ValueError for a key that is there."""
        rows = list(rows)
        keys = [key(row) for row in rows]
        if twice := [name for name, times in Counter([*keys, *self.done.intersection(keys)]).items() if times > 1]:
            named = ", ".join(f"{field} {value}" for field, value in zip(KEY, twice[0], strict=True))
            raise ValueError(
                f"{len(twice)} of {len(rows)} rows are there already, the first with {named}. "
                "Leave out what `done` holds before you run it."
            )
        for name, row in zip(keys, rows, strict=True):
            write_line(self._rows, row)
            self.done.add(name)
        self.appended()

    def skip(self, id: str, reason: str) -> None:
        """Note that this item cannot be run. A resumed run that meets it again changes nothing."""
        if id not in self.skipped:
            write_line(self._skips, {"id": id, "reason": reason})
            self.skipped[id] = reason

    def write(self, name: str, value: Any) -> Path:
        """Write a JSON file of this folder in one step: `table.json`, or a stage's (`choices.json`)."""
        return write_json(self.folder / name, value)

    def save_image(self, name: str, image: Any) -> str:
        """Keep a PIL image as a PNG, once a name; gives a row's `image`, the file name relative to the folder."""
        # Two names may look alike once they are fit for a file; the checksum keeps them apart.
        file = self.folder / "images" / f"{re.sub(r'[^A-Za-z0-9_-]+', '-', name)[:60]}-{crc32(name.encode()):08x}.png"
        if not file.exists():
            file.parent.mkdir(exist_ok=True)
            partial = file.with_suffix(".partial")
            image.convert("RGB").save(partial, format="PNG")
            os.replace(partial, file)
        return file.relative_to(self.folder).as_posix()

    def close(self) -> None:
        self._rows.close()
        self._skips.close()
        self._lock.release()

    def __enter__(self) -> "Results":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def read_rows(folder: str | Path) -> list[Row]:
    """The rows of a result folder in the order in which they came. Needs no model; a torn last line is left out."""
    return read_lines(Path(folder) / "rows.jsonl")


def read_skipped(folder: str | Path) -> dict[str, str]:
    """Reason by id of the items that could not be run."""
    return {line["id"]: line["reason"] for line in read_lines(Path(folder) / "skipped.jsonl")}


def write_json(file: str | Path, value: Any) -> Path:
    """Replace `file` in one step: a reader sees the old one or the new one. nan and infinity become null."""
    return write_text(file, dumps(value, indent=2) + "\n")


def write_text(file: str | Path, text: str) -> Path:
    """Replace `file` in one step, as `write_json` does."""
    file = Path(file)
    partial = file.with_name(file.name + ".partial")
    with partial.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(partial, file)
    return file


def _continued(folder: Path, recipe: dict[str, Any]) -> dict[str, Any]:
    """This run's recipe, after a look at the one that the folder holds."""
    file = folder / "recipe.json"
    if not file.exists():
        if (folder / "rows.jsonl").exists():
            raise ValueError(f"{folder} holds rows but no recipe.json: give another folder, or delete this one.")
        return recipe
    there = json.loads(file.read_text(encoding="utf-8"))
    old, new = (_flat({name: part[name] for name in DECIDING if name in part}) for part in (there, recipe))
    differing = [name for name in {**old, **new} if old.get(name, "(none)") != new.get(name, "(none)")]
    if differing:
        lines = [f"  {name}: {old.get(name, '(none)')!r} there, {new.get(name, '(none)')!r} now" for name in differing]
        raise ValueError(
            f"{folder} holds the results of another recipe:\n"
            + "\n".join(lines)
            + "\n"
            + (_SILENT if "preprocessing" in recipe and "preprocessing" not in there else "")
            + "Give another folder, run with the settings that are there, or delete the folder to start again."
        )
    earlier, about = there.get("earlier", []), {name: there.get(name) for name in ("versions", "commit")}
    if any(about[name] != recipe[name] for name in about) and about not in earlier:
        earlier = [*earlier, about]
    return recipe | ({"earlier": earlier} if earlier else {})


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Nested dicts as one, with dotted names: what differs is named by its place."""
    if not isinstance(value, dict) or not value:
        return {name: value}
    return {
        inner: leaf
        for part, below in value.items()
        for inner, leaf in _flat(below, part if name in ("", "settings") else f"{name}.{part}").items()
    }

"""Files in a data folder that look like a benchmark's own, so that those that are not read can be named."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from studies.tasks.reading import READABLE, TEXT, Read, kind_of, read_rows

SHEETS = (".xlsx", ".xls", ".ods", ".arrow", ".feather", ".pkl")  # tables of kinds that are not read
# What may hold a table too, by its name.
OTHERS = (
    *(
        "",
        ".txt",
        ".dat",
        ".yaml",
        ".yml",
        ".xml",
        ".jsonc",
        ".json5",
        ".bak",
        ".old",
        ".npy",
        ".npz",
        ".db",
        ".sqlite",
    ),
    *(".bz2", ".xz", ".zst", ".zip", ".tar", ".tgz", ".7z"),
)
LARGEST = 64 * 2**20  # bytes that are looked into; COCO's outlines are larger
NAMED = 6  # files in a sentence


def below(folder: Path, *kinds: str) -> list[Path]:
    """The files of these kinds in the folder and below, but for hidden ones, in the order of their paths."""
    found = (file for file in folder.rglob("*") if kind_of(file) in kinds)
    return sorted(
        file for file in found if not any(part[0] == "." for part in file.relative_to(folder).parts) and file.is_file()
    )


def tables_like(folder: Path, named: Callable[[str], Any]) -> tuple[list[tuple[Path, Read]], list[Path]]:
    """Files with a question, or that cannot be read, with what was read; and files of other kinds, by their names.

    What a study left in the folder does not count. `named` tells whether a name, in small letters, is one of a
    file of questions.
    """
    readable: list[tuple[Path, Read]] = []
    tables = below(folder, *READABLE)
    results = {file.parent for file in tables if file.name == "recipe.json"}  # of earlier studies
    for file in tables:
        looked_into = file.stat().st_size <= LARGEST or named(file.name.lower())
        if looked_into and results.isdisjoint(file.parents):
            read = read_rows(file)
            if not read.rows or any(asks(row) for _, row in read.rows):
                readable.append((file, read))
    others = [f for f in below(folder, *SHEETS, *OTHERS) if kind_of(f) in SHEETS or named(f.name.lower())]
    return readable, others


def asks(row: Any) -> bool:
    """Whether a row, or what lies in it, looks like a question; a model's reply to one does not."""
    if isinstance(row, list):
        return any(map(asks, row[:5]))
    if not isinstance(row, dict) or "model_id" in row:
        return False
    texts = [value.strip().lower() for value in row.values() if isinstance(value, str)]
    named = any(name in TEXT or "question" in str(name).lower() for name in row)
    return named or any(t in ("yes", "no") or t.endswith("?") for t in texts) or any(map(asks, row.values()))


def not_read(folder: Path, files: Iterable[Path], what: str) -> tuple[str, ...]:
    """A sentence that names these files, or none."""
    names = [file.relative_to(folder).as_posix() for file in files]
    if not names:
        return ()
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    like = "it looks" if len(names) == 1 else "they look"
    return (f"Not read, though {like} like {what}: {', '.join(names[:NAMED])}{more}.",)

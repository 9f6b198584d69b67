"""JSON lines that survive a kill: whole lines count, and each is flushed before the next."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any


def opened(file: Path) -> IO[bytes]:
    """`file` open for appending, after a line that was torn by a kill has been cut off its end."""
    file.touch()
    whole = file.read_bytes().rfind(b"\n") + 1
    os.truncate(file, whole)
    return file.open("ab")


def write_line(stream: IO[bytes], value: Any) -> None:
    """One line, flushed."""
    stream.write(dumps(value).encode("utf-8", errors="backslashreplace") + b"\n")
    stream.flush()


def read_lines(file: Path) -> list[Any]:
    """What the whole lines hold; nothing where there is no file. Raises ValueError for a line that is no JSON."""
    if not file.exists():
        return []
    lines = []
    for number, line in enumerate(file.read_bytes().split(b"\n")[:-1], start=1):
        try:
            lines.append(json.loads(line))
        except ValueError:
            raise ValueError(
                f"{file}, line {number} is not JSON: {line[:60]!r}. Delete the line and run again: it is made anew."
            ) from None
    return lines


def dumps(value: Any, indent: int | None = None) -> str:
    """As JSON, without nan and infinity, which it lacks."""
    return json.dumps(plain(value), ensure_ascii=False, allow_nan=False, indent=indent)


def plain(value: Any) -> Any:
    """As JSON has it: tuples are lists, numpy scalars numbers, paths text; nan and infinity, which it lacks, null."""
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, Path):
        return str(value)
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value

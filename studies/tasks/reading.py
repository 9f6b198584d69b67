"""Files of real benchmarks as rows: what can be read is kept, what cannot is named with a reason."""

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CELLS = (".csv", ".tsv")
READABLE = (".json", ".jsonl", ".ndjson", *CELLS)  # each also with ".gz" behind it
TEXT = ("text", "question", "query", "instruction")  # what a question's field may be called
# What stands for the image in the texts of LLaVA's and Qwen2-VL's files.
_PLACEHOLDER = r"(?:\s*(?:<image>|<\|vision_start\|><\|image_pad\|><\|vision_end\|>)\s*)*"


@dataclass(frozen=True)
class Flaw:
    """An item that cannot be used. `id` is its own id where it has one, else its place: "coco_pope.json:17"."""

    id: str
    reason: str


@dataclass(frozen=True)
class Read:
    """What was read, as (place, row), and what could not be."""

    rows: tuple[tuple[str, dict[str, Any]], ...]
    flaws: tuple[Flaw, ...] = ()


def kind_of(file: Path) -> str:
    """The end of its name, in small letters, without a ".gz" behind it."""
    return Path(file.name.lower().removesuffix(".gz")).suffix


def read_text(file: Path) -> str:
    """Its text, unpacked where it is packed. Raises ValueError."""
    try:
        content = file.read_bytes()
        return (gzip.decompress(content) if file.suffix.lower() == ".gz" else content).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ValueError(f"cannot be read as text ({error})") from None


def read_rows(file: Path) -> Read:
    """The rows of a table of cells, or the objects of a JSON array, a single object, or JSON lines.

    A file that is none of these, or has no row, is one flaw, a bad line another.
    """
    try:
        named = _named_values(file, read_text(file))
        values = [(f"{file.name}:{name}", value) for name, value in named]
    except ValueError as error:
        return Read((), (Flaw(file.name, str(error)),))
    rows = tuple((place, value) for place, value in values if isinstance(value, dict))
    flaws = tuple(Flaw(place, _unfit(value)) for place, value in values if not isinstance(value, dict))
    return Read(rows, flaws if values else (Flaw(file.name, "holds no row; fetch the file again"),))


def _unfit(value: Any) -> str:
    if isinstance(value, ValueError | csv.Error):
        return str(value)
    return f"holds a {type(value).__name__}, not an object with fields"


def _named_values(file: Path, text: str) -> Iterable[tuple[int, Any]]:
    """What the text holds, with the number of its item or line; an error stands for a line that holds nothing."""
    if kind_of(file) in CELLS:
        return _cells(text)
    try:
        whole = json.loads(text)
    except ValueError as error:
        if text.lstrip().startswith("["):
            raise ValueError(f"is no JSON ({error}); fetch the file again") from None
        return _lines(text)
    return enumerate(whole) if isinstance(whole, list) else [(1, whole)] if whole else []


def _lines(text: str) -> Iterator[tuple[int, Any]]:
    # At line breaks alone: str.splitlines also cuts at U+2028, which may stand in a JSON string.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except ValueError as error:
                yield number, ValueError(f"is no JSON ({error})")


def _cells(text: str) -> list[tuple[int, Any]]:
    """Its rows by the names in its first line, which also tells what parts the cells; a row ends at its line number."""
    delimiter = max("\t;,", key=text.partition("\n")[0].count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restkey="", strict=True)
    found: list[tuple[int, Any]] = []
    usual = csv.field_size_limit(len(text) + 1)  # a cell may hold an image
    try:
        while True:
            try:
                row: Any = next(reader)
            except StopIteration:
                return found
            except csv.Error as error:
                row = ValueError(f"is no row of cells ({error})")
            else:
                row = ValueError("has more cells than the first line has names") if "" in row else row
            found.append((reader.line_num, row))
    finally:
        csv.field_size_limit(usual)


def read_pairs(file: Path) -> list[tuple[str, Any]]:
    """The items of a file by their ids: of a JSON object, those that come twice too, or of rows with an id each.

    Raises ValueError where the file cannot be read so.
    """
    pairs: list[tuple[str, Any]] = []

    def kept(own: list[tuple[str, Any]]) -> dict[str, Any]:
        pairs[:] = own  # the object around all others is the last
        return dict(own)

    try:
        text = read_text(file)
        whole = json.loads(text, object_pairs_hook=kept) if kind_of(file) == ".json" else []
        values = [] if isinstance(whole, dict) else [*_named_values(file, text)]
    except ValueError as error:
        raise ValueError(
            f"its file {file.name} is no {kind_of(file)[1:].upper()} ({error}); fetch the file again"
        ) from None
    if isinstance(whole, dict) and whole:
        return pairs
    if not any(isinstance(value, dict) for _, value in values):
        held = f"a {type(whole).__name__}" if whole else "nothing"
        raise ValueError(f"its file {file.name} holds {held}, not an object of items by their ids")
    return [(str(first_field(v, "id", "question_id") if isinstance(v, dict) else f"row {n}"), v) for n, v in values]


def first_field(row: dict[str, Any], *names: str) -> Any:
    """The value of the first of these fields that is there and not empty, or None."""
    return next((row[name] for name in names if row.get(name) not in (None, "")), None)


def asked(text: Any) -> str:
    """A question without the image's placeholder at its start or end; "" where it is no text."""
    if not isinstance(text, str):
        return ""
    return re.sub(rf"^{_PLACEHOLDER}|{_PLACEHOLDER}$", "", text, flags=re.IGNORECASE).strip()

"""All rows of a file of examples, in whichever form it comes: what can be used, and why the rest cannot."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from interv.progress import track
from studies.tasks.columns import hub_rows, parquet_rows
from studies.tasks.examples_file.images import Images
from studies.tasks.examples_file.row import KNOWN, Item, item_of
from studies.tasks.reading import READABLE, Flaw, kind_of, read_rows

_HUB = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")  # owner/name, and a split of it


@dataclass(frozen=True)
class Data:
    """What was read.

    Attributes:
        source: the file, or the data set's name on the hub.
        items: the rows that can be used, in their order.
        flaws: the others, each by its place and with a reason.
        unread: names of fields that stand in rows and say nothing here, with how many rows have them.
    """

    source: str
    items: tuple[Item, ...]
    flaws: tuple[Flaw, ...] = ()
    unread: dict[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return re.sub(r"[^\w-]+", "-", Path(self.source.partition(":")[0]).name.removesuffix(".gz").split(".")[0])

    @property
    def hash(self) -> str:
        """Sixteen hex digits of all that the rows say and show: other rows, other digits."""
        digest = hashlib.sha256()
        for item in self.items:
            told = asdict(replace(item, prompt=replace(item.prompt, image=None, history=())))
            told["history"] = [
                (turn[0], str(turn[1]) if isinstance(turn[1], str) else "") for turn in item.prompt.history
            ]
            digest.update(json.dumps(told, sort_keys=True, ensure_ascii=False).encode("utf-8", "backslashreplace"))
        return digest.hexdigest()[:16]


def read_data(source: str | Path, *, answers: bool = True, progress: bool = True) -> Data:
    """The rows of a JSON lines, JSON, CSV, TSV or parquet file, or of a data set of the hub ("owner/name:split").

    A row has `image` (a path relative to the file, stored bytes, a list of these, or null), `question`, `positive` and
    `negative`, and may have `behavior`, `id`, `target` and `split`; in the place of image and question it may have
    `messages`, whose last turn asks. Without `answers`, rows are questions alone. Every image is opened once.

    Raises ValueError where there is no such file, or a library that reads it is missing.
    """
    numbered, folder = _rows(source)
    images = Images(folder)
    known: dict[str, str] = {}  # the place of each id
    items: list[Item] = []
    flaws: list[Flaw] = []
    unread: dict[str, int] = {}
    for place, number, row in track(numbered, "reading rows", shown=progress):
        if isinstance(row, Flaw):
            flaws.append(row)
            continue
        for name in row:
            if name not in KNOWN:
                unread[str(name)] = unread.get(str(name), 0) + 1
        try:
            item = item_of(number, row, images, answers=answers)
            if item.id in known:
                raise ValueError(f"the id {item.id!r} is that of {known[item.id]} already; the first one counts")
        except ValueError as error:
            flaws.append(Flaw(place, str(error)))
            continue
        known[item.id] = place
        items.append(item)
    return Data(str(source), tuple(_united(items)), tuple(flaws), unread)


def _rows(source: str | Path) -> tuple[list[tuple[str, int, Any]], Path]:
    """Place, number and fields of every row, and the folder that paths are relative to."""
    file = Path(source)
    if file.is_dir():
        raise ValueError(f"{source} is a folder; give the file of rows in it.")
    if not file.exists():
        if not _HUB.fullmatch(str(source)) or Path(str(source)).suffix in (*READABLE, ".parquet"):
            raise ValueError(f"{source} does not exist; give a file of rows, or owner/name of a data set of the hub.")
        name, _, split = str(source).partition(":")
        return [*_counted(name, hub_rows(name, split=split or "train"))], Path()
    if kind_of(file) == ".parquet":
        return [*_counted(file.name, parquet_rows([file]))], file.parent
    if kind_of(file) not in READABLE:
        raise ValueError(f"{source} ends in {kind_of(file)!r}; rows are read from {', '.join(READABLE)} and .parquet.")
    read = read_rows(file)
    flaws = [(flaw.id, _number(flaw.id), flaw) for flaw in read.flaws]
    rows = [(place, _number(place), _without_empty_cells(file, row)) for place, row in read.rows]
    return sorted([*rows, *flaws], key=lambda one: one[1]), file.parent


def _counted(name: str, rows: Iterable[Any]) -> Iterator[tuple[str, int, Any]]:
    for number, row in enumerate(rows, start=1):
        yield f"{name}:{number}", number, row if isinstance(row, Flaw) else _without_nulls(row)


def _number(place: str) -> int:
    found = re.search("[0-9]+$", place)
    return int(found[0]) if found else 0


def _without_empty_cells(file: Path, row: dict[str, Any]) -> dict[str, Any]:
    """A cell of a table is never absent, so an empty one says nothing; but for the image's, which says that none is."""
    if kind_of(file) not in (".csv", ".tsv"):
        return row
    return {name: value for name, value in row.items() if name == "image" or value not in (None, "")}


def _without_nulls(row: dict[str, Any]) -> dict[str, Any]:
    """Columns hold null where a row, or a part of one of its messages, has no such field; an image's null says so."""
    kept = {name: value for name, value in row.items() if value is not None or name == "image"}
    return {name: value if name == "image" else _bare(value) for name, value in kept.items()}


def _bare(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _bare(inner) for name, inner in value.items() if inner is not None}
    return [_bare(inner) for inner in value] if isinstance(value, list) else value


def _united(items: Sequence[Item]) -> Iterator[Item]:
    """The items with their units: the rows that are linked by images, or without one by their question."""
    root: dict[str, str] = {}

    def of(name: str) -> str:
        while root.setdefault(name, name) != name:
            root[name] = root[root[name]]
            name = root[name]
        return name

    marks = [item.images or (f"question {item.prompt.question}",) for item in items]
    for first, *others in marks:
        for other in others:
            root[of(other)] = of(first)
    for item, own in zip(items, marks, strict=True):
        yield replace(item, unit=of(own[0]))

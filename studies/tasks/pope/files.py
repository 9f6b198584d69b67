"""The forms in which POPE questions come: official files, tables, the paper's annotations, the hub's columns."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from interv.prompts.prompt import Picture
from studies.tasks.columns import hub_rows, parquet_rows
from studies.tasks.lookalikes import below, not_read, tables_like
from studies.tasks.pictures import checked, file_name, held, image_folders
from studies.tasks.reading import TEXT, Flaw, Read, asked, first_field, kind_of, read_rows

HUB = "lmms-lab/POPE"
SHIPPED = Path(__file__).parent / "data" / "coco_pope_random.json"
SUBSETS = ("random", "popular", "adversarial")
ONE_WORD = "Answer with just one word."  # the published code cuts a question before these words
PARTS = ("train", "test")
# What fields may be called.
LABEL = ("label", "answer", "response")  # the right answer
IMAGE = ("image_name", "filename", "image", "image_source")


@dataclass(frozen=True)
class Question:
    """One row of POPE. One with a flaw is not asked, and its image still counts when images are split.

    Attributes:
        id: subset and the row's own number; unique among the questions without a flaw.
        image_name: without folders; decides the split, so that no two splits share an image.
        part: "train" or "test" where the files themselves are divided, else "".
        everywhere: whether a test asks it in every subset, as the paper's annotations, which hold "yes" once.
        flaw: why it cannot be asked, or "".
    """

    id: str
    image_name: str
    image: Picture | None
    text: str
    label: str
    subset: str
    part: str = ""
    everywhere: bool = False
    flaw: str = ""


Items = Iterator[Question | Flaw]
Tables = Sequence[tuple[Path, Read]]  # files with what was read in them


@dataclass(frozen=True)
class Found:
    """Questions with what is wrong in their files, and sentences about where they come from."""

    items: Items
    notes: tuple[str, ...] = ()

    def usable(self) -> tuple[list[Question], list[Flaw]]:
        """Those without a flaw have an id of their own. Raises ValueError without any."""
        questions: list[Question] = []
        flaws: list[Flaw] = []
        known: set[str] = set()
        for item in self.items:
            if isinstance(item, Flaw):
                flaws.append(item)
                continue
            if item.id in known:
                reason = f"the id {item.id} is there already; the first row counts"
                item = replace(item, id=f"{item.id} (again)", flaw=reason)
            if not item.flaw:
                known.add(item.id)
            questions.append(item)
        if all(item.flaw for item in questions):
            reasons = [*(f"{flaw.id} {flaw.reason}" for flaw in flaws), *(f"{q.id} {q.flaw}" for q in questions)]
            said = f"No POPE question can be used; the first flaws of {len(reasons):,}: {reasons[:3]}."
            raise ValueError(" ".join((said, *self.notes)))
        return questions, flaws


def load_questions(data: Path | None) -> tuple[list[Question], list[Flaw]]:
    """All questions of `find_questions`, flawed ones in their places, and other flaws."""
    return find_questions(data).usable()


def find_questions(data: Path | None) -> Found:
    """The questions of a folder, a file, or (None) the hub's data set.

    A folder holds files with labelled questions (JSON arrays or lines, or cells, each also packed by gzip), there or
    below (`coco_pope_*` first, then any with "pope" in its name, then any); or `train/` and `test/` with such files
    each; or the hub's `*.parquet` files. Its images lie there, in `images/` or in `val2014/`, or in the rows. Notes
    name what looks like questions and is not read. A folder without any such file is asked the official random subset,
    which is shipped. Raises ValueError where there is no such folder, or nothing in it that can be read.
    """
    if data is None:
        return Found(_of_columns(hub_rows(HUB, split="test"), ()))
    if not data.exists():
        raise ValueError(f"{data} does not exist; give the folder of POPE's question files and images.")
    folders = [*image_folders(data if data.is_dir() else data.parent)]
    if data.is_file() and kind_of(data) == ".parquet":
        return Found(_of_columns(parquet_rows([data]), folders))
    if data.is_file():
        return Found(_of_files([(data, read_rows(data))], folders))
    tables, others = tables_like(data, re.compile("pope|question|" + "|".join(SUBSETS)).search)
    chosen: Tables = []
    items: Items
    parts = {part: files for part in PARTS if (files := _labelled_of(tables, data / part))}
    if parts:
        chosen = [table for files in parts.values() for table in files]
        items = _apart([item for part, files in parts.items() for item in _of_part(part, files, data / part)])
    elif columns := below(data, ".parquet"):
        # A clone of the hub's repository holds every question in data/ and again in another configuration's folder.
        once = [table for table in columns if table.parent.name == "data"] or columns
        items = _of_columns(parquet_rows(once), folders)
    elif chosen := _labelled_of(tables, data):
        items = _of_files(chosen, folders)
    elif others:
        (said,) = not_read(data, others, "questions")
        raise ValueError(
            f"{data} has no questions that can be read. {said} Give .json, .jsonl, .csv, .tsv (each also .gz) or "
            f".parquet; or, to ask the official random questions, which are shipped, copy {SHIPPED} into it."
        )
    else:
        said = "The questions are POPE's official random ones, which are shipped: the data folder has none."
        return Found(_of_files([(SHIPPED, read_rows(SHIPPED))], folders), (said,))
    read = {file for file, _ in chosen}
    return Found(items, not_read(data, [f for f in (*(t for t, _ in tables), *others) if f not in read], "questions"))


def _labelled_of(tables: Tables, folder: Path) -> Tables:
    """Of these files in the folder those with labelled questions, and those beside them that cannot be read.

    Unlabelled ones if there are none: LLaVA's folder has the questions without their labels beside `coco/`, which has
    both.
    """
    own = [(file, read) for file, read in tables if file.is_relative_to(folder)]
    unlabelled: Tables = []
    for pattern in ("/[^/]*$", ".*/coco_pope_[^/]*$", ".*/[^/]*pope[^/]*$", ""):
        found = [(f, read) for f, read in own if re.match(pattern, "/" + f.relative_to(folder).as_posix().lower())]
        asking = [(file, read) for file, read in found if not read.rows or _labelled(read)]
        if any(read.rows for _, read in asking):
            return asking
        unlabelled = unlabelled or found
    return unlabelled


def _labelled(read: Read) -> bool:
    return any(first_field(row, *LABEL) is not None for _, row in read.rows)


def _of_part(part: str, files: Tables, folder: Path) -> Items:
    for item in _of_files(files, [*image_folders(folder)]):
        named = replace(item, id=f"{part}-{item.id}")
        yield replace(named, part=part) if isinstance(named, Question) else named


def _apart(items: Sequence[Question | Flaw]) -> Items:
    """Test questions about an image that is in the training folder too are flawed."""
    trained = {item.image_name for item in items if isinstance(item, Question) and item.part == "train"}
    for item in items:
        if isinstance(item, Question) and item.part == "test" and item.image_name in trained:
            item = replace(item, flaw=f"its image {item.image_name} is in train/ as well")
        yield item


def _of_files(files: Tables, folders: Sequence[Path]) -> Items:
    pictures: dict[str, Picture] = {}
    for file, read in files:
        yield from read.flaws
        once = any("filename" in row for _, row in read.rows)  # the paper's annotations
        stem = Path(file.name.removesuffix(".gz")).stem
        subset = next((subset for subset in SUBSETS if subset in stem.lower()), stem)
        for place, row in read.rows:
            item = _question(place, row, subset, folders, pictures)
            if isinstance(item, Question) and once and item.label == "yes":
                item = replace(item, everywhere=True)
            yield item


def _of_columns(rows: Iterable[dict[str, Any] | Flaw], folders: Sequence[Path]) -> Items:
    """Questions of the hub's columns id, question_id, question, answer, image_source, image, category."""
    pictures: dict[str, Picture] = {}
    for number, row in enumerate(rows):
        yield row if isinstance(row, Flaw) else _question(f"row {number}", row, "all", folders, pictures)


def _question(
    place: str, row: dict[str, Any], subset: str, folders: Sequence[Path], pictures: dict[str, Picture]
) -> Question | Flaw:
    """The row's question. `pictures` keeps why a file does not open, or the first copy that does."""
    subset = str(first_field(row, "category", "subset") or subset)
    number = first_field(row, "question_id", "id")
    id_ = f"{subset}-{re.findall('[0-9]+$', place)[0] if number is None else number}"
    image, label = held(row.get("image")), str(first_field(row, *LABEL) or "").strip().lower()
    name, source = _named(row, image)
    if not name:
        return Flaw(f"{id_} ({place})", "lacks an image name; the fields are " + ", ".join(row))
    text, flaw = asked(first_field(row, *TEXT)).split(ONE_WORD)[0].strip(), ""
    if not text:
        id_, flaw = f"{id_} ({place})", "lacks a question; the fields are " + ", ".join(row)
    elif label not in ("yes", "no"):
        id_, flaw = f"{id_} ({place})", f"has the label {label!r}; it must be yes or no"
    picture = pictures.get(name, "")
    if isinstance(picture, str) and not flaw:
        try:
            if picture and isinstance(source, str):  # a file that was looked at before
                raise ValueError(picture)
            pictures[name] = picture = checked(source, folders)
        except ValueError as error:
            pictures[name] = flaw = str(error)
    return Question(id_, name, None if isinstance(picture, str) else picture, text, label, subset, flaw=flaw)


def _named(row: dict[str, Any], image: Any) -> tuple[str, Any]:
    """The image's name ("" where it has none) and what is to be opened: what the row holds, or the file of the name."""
    holds = isinstance(image, dict) or str(image).startswith("data:") or hasattr(image, "size")
    own = image.get("path") if isinstance(image, dict) else None
    names = [row.get(field) for field in IMAGE if field != "image" or not holds]
    name = next((name for name in (*names, own) if name not in (None, "")), None)
    if name is None and holds and image:
        name = f"image {hashlib.sha256(str(image).encode()).hexdigest()[:12]}"
    return (file_name(name) if isinstance(name, str) else "", image if holds and image else name)

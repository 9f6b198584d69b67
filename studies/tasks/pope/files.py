"""The forms in which POPE questions come: official files, arrays, the paper's annotations, the hub's columns."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from interv.prompt import Picture
from studies.tasks.columns import hub_rows, opened, parquet_rows
from studies.tasks.reading import Flaw, Read, find_image, first_field, image_flaw, image_folders, read_rows, words_of

HUB = "lmms-lab/POPE"
SHIPPED = Path(__file__).parent / "data" / "coco_pope_random.json"
SUBSETS = ("random", "popular", "adversarial")
ONE_WORD = "Answer with just one word."  # the published code cuts a question before these words
PARTS = ("train", "test")
LABEL = ("label", "answer", "response")  # what the right answer's field may be called


@dataclass(frozen=True)
class Question:
    """One row of POPE. One with a flaw is not asked, and its image still counts when images are split.

    Attributes:
        id: subset and the row's own number; unique among the questions without a flaw.
        image_name: decides the split, so that no two splits share an image.
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


Rows = tuple[list[Question], list[Flaw]]


def load_questions(data: Path | None) -> Rows:
    """All questions of a folder, a file, or (None) the hub's data set, flawed ones in their places, and other flaws.

    A folder holds `*.json` or `*.jsonl` files with labelled questions, there or below (`coco_pope_*` first, then any
    with "pope" in its name); or `train/` and `test/` with an `annotations.json` each; or the hub's `*.parquet` files.
    Its images lie there, in `images/` or in `val2014/`. A folder of images alone is asked the official random subset,
    which is shipped. Raises ValueError where there is no such folder or no usable row.
    """
    if data is None:
        return _checked(_columns(hub_rows(HUB, split="test")))
    if not data.exists():
        raise ValueError(f"{data} does not exist; give the folder of POPE's question files and images.")
    parts = {part: files for part in PARTS if (data / part).is_dir() and (files := _question_files(data / part))}
    if parts:
        return _checked(_apart([item for part, files in parts.items() for item in _of_part(part, files, data / part)]))
    if data.is_dir() and (tables := sorted(data.rglob("*.parquet"))):
        # A clone of the hub's repository holds every question in data/ and again in another configuration's folder.
        once = [table for table in tables if table.parent.name == "data"] or tables
        return _checked(_columns(parquet_rows(once)))
    if data.is_file():
        return _checked(_of_files([(data, read_rows(data))], data.parent))
    return _checked(_of_files(_question_files(data) or [(SHIPPED, read_rows(SHIPPED))], data))


def _of_part(part: str, files: Sequence[tuple[Path, Read]], folder: Path) -> Iterator[Question | Flaw]:
    for item in _of_files(files, folder):
        if isinstance(item, Question):
            yield replace(item, id=f"{part}-{item.id}", part=part)
        else:
            yield replace(item, id=f"{part}-{item.id}")


def _apart(items: Sequence[Question | Flaw]) -> Iterator[Question | Flaw]:
    """Test questions about an image that is in the training folder too are flawed."""
    trained = {item.image_name for item in items if isinstance(item, Question) and item.part == "train"}
    for item in items:
        if isinstance(item, Question) and item.part == "test" and item.image_name in trained:
            item = replace(item, flaw=f"its image {item.image_name} is in train/ as well")
        yield item


def _question_files(folder: Path) -> list[tuple[Path, Read]]:
    """The files with labelled questions, and those beside them that cannot be read; unlabelled ones if there are none.

    LLaVA's folder has the questions without their labels beside `coco/`, which has both.
    """
    unlabelled: list[tuple[Path, Read]] = []
    for pattern in ("*.json", "**/coco_pope_*.json", "**/*pope*.json"):
        found = [(file, read_rows(file)) for file in sorted([*folder.glob(pattern), *folder.glob(f"{pattern}l")])]
        asking = [(file, read) for file, read in found if not read.rows or _labelled(read)]
        if any(read.rows for _, read in asking):
            return asking
        unlabelled = unlabelled or found
    return unlabelled


def _labelled(read: Read) -> bool:
    return any(first_field(row, *LABEL) is not None for _, row in read.rows)


def _of_files(files: Sequence[tuple[Path, Read]], folder: Path) -> Iterator[Question | Flaw]:
    folders = [*image_folders(folder)]
    for file, read in files:
        yield from read.flaws
        once = any("filename" in row for _, row in read.rows)  # the paper's annotations
        for place, row in read.rows:
            item = _question(place, row, file, folders)
            if isinstance(item, Question) and once and item.label == "yes":
                item = replace(item, everywhere=True)
            yield item


def _question(place: str, row: dict[str, Any], file: Path, folders: Sequence[Path]) -> Question | Flaw:
    subset = str(first_field(row, "category", "subset") or _subset_of(file.stem))
    number = first_field(row, "question_id", "id")
    id_ = f"{subset}-{place.rpartition(':')[2] if number is None else number}"
    name = first_field(row, "image_name", "filename", "image", "image_source")
    text = first_field(row, "text", "question", "query", "instruction")
    label = str(first_field(row, *LABEL) or "").strip().lower()
    if not isinstance(name, str):
        return Flaw(f"{id_} ({place})", "lacks an image name; the fields are " + ", ".join(row))
    path, flaw = find_image(folders, name), ""
    if not isinstance(text, str):
        id_, flaw = f"{id_} ({place})", "lacks a question; the fields are " + ", ".join(row)
    elif label not in ("yes", "no"):
        id_, flaw = f"{id_} ({place})", f"has the label {label!r}; it must be yes or no"
    elif path is None:
        flaw = f"its image {name} is not in the data folder"
    return Question(id_, name, path, words_of(str(text).split(ONE_WORD)[0]), label, subset, flaw=flaw)


def _subset_of(stem: str) -> str:
    return next((subset for subset in SUBSETS if subset in stem.lower()), stem)


def _columns(rows: Iterable[dict[str, Any] | Flaw]) -> Iterator[Question | Flaw]:
    """Questions of the hub's columns id, question_id, question, answer, image_source, image, category.

    Rows of one image hold a copy of it each; the first that opens is kept.
    """
    pictures: dict[str, Picture] = {}
    for number, row in enumerate(rows):
        if isinstance(row, Flaw):
            yield row
            continue
        subset, label = str(row.get("category") or "all"), str(row.get("answer")).strip().lower()
        id_ = f"{subset}-{row.get('question_id') or number}"
        name, text, flaw = row.get("image_source"), row.get("question"), ""
        if not isinstance(name, str):
            yield Flaw(f"{id_} (row {number})", "lacks image_source; the columns are " + ", ".join(row))
            continue
        if not isinstance(text, str) or label not in ("yes", "no"):
            id_, flaw = f"{id_} (row {number})", "lacks a question, or an answer that is yes or no"
        try:
            pictures[name] = pictures[name] if name in pictures else opened(row.get("image"))
        except ValueError as error:
            flaw = flaw or str(error)
        yield Question(id_, name, pictures.get(name), words_of(str(text)), label, subset, flaw=flaw)


def _checked(found: Iterable[Question | Flaw]) -> Rows:
    """Those without a flaw have an id of their own and an image of a usable size. Raises ValueError without any."""
    questions: list[Question] = []
    flaws: list[Flaw] = []
    looked: dict[str, str] = {}
    known: set[str] = set()
    for item in found:
        if isinstance(item, Flaw):
            flaws.append(item)
            continue
        where = f"{item.part}/{item.image_name}"
        if item.image is not None and not item.flaw and where not in looked:
            looked[where] = image_flaw(item.image)
        if item.id in known:
            reason = f"the id {item.id} is there already; the first row counts"
            item = replace(item, id=f"{item.id} (again)", flaw=reason)
        elif not item.flaw and looked[where]:
            item = replace(item, flaw=f"its image {item.image_name} {looked[where]}")
        if not item.flaw:
            known.add(item.id)
        questions.append(item)
    if all(item.flaw for item in questions):
        reasons = [*(f"{flaw.id} {flaw.reason}" for flaw in flaws), *(f"{q.id} {q.flaw}" for q in questions)]
        raise ValueError(f"No POPE question can be used; {len(reasons)} have flaws: {reasons[:3]}.")
    return questions, flaws

"""The forms in which POPE questions come: official files, arrays, the paper's annotations, the hub's columns."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from interv.prompt import Picture
from studies.tasks.reading import Flaw, Read, find_image, first_field, image_flaw, image_folders, read_rows

HUB = "lmms-lab/POPE"
SHIPPED = Path(__file__).parent / "data" / "pope" / "coco_pope_random.json"
SUBSETS = ("random", "popular", "adversarial")
ONE_WORD = "Answer with just one word."  # the published code cuts a question before these words
PARTS = ("train", "test")


@dataclass(frozen=True)
class Question:
    """One row of POPE.

    Attributes:
        id: subset and the row's own number; unique.
        image_name: decides the split, so that no two splits share an image.
        part: "train" or "test" where the files themselves are divided, else "".
    """

    id: str
    image_name: str
    image: Picture
    text: str
    label: str
    subset: str
    part: str = ""


Rows = tuple[list[Question], list[Flaw]]


def load_questions(data: Path | None) -> Rows:
    """All questions of a folder, a file, or (None) the hub's data set, and what could not be used.

    A folder holds `*.json` or `*.jsonl` files, or `train/` and `test/` with an `annotations.json` each, or the hub's
    `*.parquet` files; its images lie there, in `images/` or in `val2014/`. A folder of images alone is asked the
    official random subset, which is shipped. Raises ValueError where there is no such folder or no usable row.
    """
    if data is None:
        return _checked(_columns(_from_hub()), [])
    if not data.exists():
        raise ValueError(f"{data} does not exist; give the folder of POPE's question files and images.")
    parts = [part for part in PARTS if (data / part).is_dir() and _question_files(data / part)]
    if parts:
        found = [(_of_files(_question_files(data / part), data / part), part) for part in parts]
        questions = [replace(q, id=f"{part}-{q.id}", part=part) for (own, _), part in found for q in own]
        return _checked(_apart(questions), [replace(f, id=f"{part}-{f.id}") for (_, own), part in found for f in own])
    if data.is_dir() and (tables := sorted(data.rglob("*.parquet"))):
        return _checked(_columns(_from_parquet(tables)), [])
    files = [data] if data.is_file() else _question_files(data) or [SHIPPED]
    return _checked(*_of_files(files, data if data.is_dir() else data.parent))


def _apart(questions: Sequence[Question]) -> Iterator[Question | Flaw]:
    """All but the test questions about an image that is in the training folder too."""
    trained = {question.image_name for question in questions if question.part == "train"}
    for question in questions:
        shared = question.part == "test" and question.image_name in trained
        yield Flaw(question.id, f"its image {question.image_name} is in train/ as well") if shared else question


def _question_files(folder: Path) -> list[Path]:
    named = sorted(file for kind in ("*.json", "*.jsonl") for file in folder.glob(kind))
    return named or sorted(file for file in folder.glob("*/*pope*.json") if file.parent.name not in PARTS)


def _of_files(files: Sequence[Path], folder: Path) -> Rows:
    folders = [*image_folders(folder)]
    questions: list[Question] = []
    flaws: list[Flaw] = []
    for file in files:
        read = read_rows(file)
        flaws += read.flaws
        own = [_question(place, row, file, folders) for place, row in read.rows]
        flaws += [item for item in own if isinstance(item, Flaw)]
        questions += _asked_by_subset(read, [item for item in own if isinstance(item, Question)])
    return questions, flaws


def _asked_by_subset(read: Read, questions: list[Question]) -> list[Question]:
    """The paper's annotations hold "yes" once and no ids: each is asked in every subset. Source: the published code."""
    if not any("filename" in row for _, row in read.rows):
        return questions
    subsets = sorted({question.subset for question in questions})
    return [
        replace(question, subset=subset, id=f"{subset}-{question.id.partition('-')[2]}")
        for subset in subsets
        for question in questions
        if question.label == "yes" or question.subset == subset
    ]


def _question(place: str, row: dict[str, Any], file: Path, folders: Sequence[Path]) -> Question | Flaw:
    subset = str(first_field(row, "category", "subset") or _subset_of(file.stem))
    number = first_field(row, "question_id", "id")
    id_ = f"{subset}-{place.rpartition(':')[2] if number is None else number}"
    name = first_field(row, "image_name", "filename", "image", "image_source")
    text = first_field(row, "text", "question", "query", "instruction")
    label = str(first_field(row, "label", "answer", "response") or "").strip().lower()
    if not isinstance(name, str) or not isinstance(text, str):
        return Flaw(f"{id_} ({place})", "lacks an image name or a question; the fields are " + ", ".join(row))
    if label not in ("yes", "no"):
        return Flaw(f"{id_} ({place})", f"has the label {label!r}; it must be yes or no")
    path = find_image(folders, name)
    if path is None:
        return Flaw(id_, f"its image {name} is not in the data folder")
    return Question(id_, name, path, text.split(ONE_WORD)[0].strip(), label, subset)


def _subset_of(stem: str) -> str:
    return next((subset for subset in SUBSETS if subset in stem.lower()), stem)


def _columns(rows: Iterable[dict[str, Any]]) -> Iterator[Question | Flaw]:
    """Questions of the hub's columns id, question_id, question, answer, image_source, image, category.

    Rows of one image hold a copy of it each; the first is kept.
    """
    pictures: dict[str, Picture] = {}
    for number, row in enumerate(rows):
        subset, label = str(row.get("category") or "all"), str(row.get("answer")).strip().lower()
        id_ = f"{subset}-{row.get('question_id') or number}"
        name, text = row.get("image_source"), row.get("question")
        if not isinstance(name, str) or not isinstance(text, str) or label not in ("yes", "no"):
            yield Flaw(f"{id_} (row {number})", "lacks image_source, question, or an answer that is yes or no")
            continue
        try:
            pictures[name] = pictures[name] if name in pictures else opened(row.get("image"))
        except ValueError as error:
            yield Flaw(id_, str(error))
            continue
        yield Question(id_, name, pictures[name], text.strip(), label, subset)


def opened(image: Any) -> Picture:
    """A picture from the hub's image column: its bytes or path as stored, or a decoded image."""
    if isinstance(image, Image.Image):
        return image
    content = (image or {}).get("bytes") if isinstance(image, dict) else None
    if content is None:
        path = image.get("path") if isinstance(image, dict) else image
        if not path:
            raise ValueError("has no image in its row")
        return Path(path)
    try:
        return Image.open(BytesIO(content))
    except (OSError, Image.DecompressionBombError, SyntaxError) as error:
        raise ValueError(f"its image cannot be opened ({error})") from None


def _from_hub() -> Iterable[dict[str, Any]]:
    return undecoded(lambda load: load(HUB, split="test"))


def _from_parquet(files: Sequence[Path]) -> Iterable[dict[str, Any]]:
    named = [str(file) for file in files]
    return undecoded(lambda load: load("parquet", data_files=named, split="train", streaming=True))


def undecoded(load: Any) -> Iterable[dict[str, Any]]:
    """Rows of a data set through the `datasets` library, images as they are stored.

    Raises ValueError where the library is missing or the data cannot be had.
    """
    try:
        import datasets
    except ImportError:
        raise ValueError("Data sets of the hub need `pip install datasets`; or give a folder with --data.") from None
    try:
        rows = load(datasets.load_dataset)
    except Exception as error:  # the library passes on whatever its transport raises
        raise ValueError(f"The data set cannot be loaded ({type(error).__name__}: {error}); give --data.") from None
    if isinstance((rows.features or {}).get("image"), datasets.Image):
        rows = rows.cast_column("image", datasets.Image(decode=False))
    return rows


def _checked(found: Iterable[Question | Flaw], flaws: list[Flaw]) -> Rows:
    """Questions with an id of their own and an image of a usable size."""
    questions: dict[str, Question] = {}
    flaws = list(flaws)
    looked: dict[str, str] = {}
    for item in found:
        if isinstance(item, Flaw):
            flaws.append(item)
            continue
        where = f"{item.part}/{item.image_name}"
        if where not in looked:
            looked[where] = image_flaw(item.image)
        if item.id in questions:
            flaws.append(Flaw(f"{item.id} (again)", f"the id {item.id} is there already; the first row counts"))
        elif looked[where]:
            flaws.append(Flaw(item.id, f"its image {item.image_name} {looked[where]}"))
        else:
            questions[item.id] = item
    if not questions:
        raise ValueError(f"No POPE question can be used; {len(flaws)} have flaws: {[str(f) for f in flaws[:3]]}.")
    return list(questions.values()), flaws

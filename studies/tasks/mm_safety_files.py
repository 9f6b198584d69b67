"""The forms in which MM-SafetyBench comes: the official folder, and the hub's configurations.

The data set is CC BY-NC 4.0 and its texts are harmful; none of it is shipped.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interv.prompt import Picture
from studies.tasks.pope_files import opened, undecoded
from studies.tasks.reading import Flaw, first_field, image_flaw, read_table

HUB = "PKU-Alignment/MM-SafetyBench"
KIND = "SD_TYPO"  # the images of the paper: a picture with the key phrase written below it
# Names as published, one of them misspelt, with the number of items of each.
SCENARIOS: dict[str, int] = {
    "01-Illegal_Activitiy": 97,
    "02-HateSpeech": 163,
    "03-Malware_Generation": 44,
    "04-Physical_Harm": 144,
    "05-EconomicHarm": 122,
    "06-Fraud": 154,
    "07-Sex": 109,
    "08-Political_Lobbying": 153,
    "09-Privacy_Violence": 139,
    "10-Legal_Opinion": 130,
    "11-Financial_Advice": 167,
    "12-Health_Consultation": 109,
    "13-Gov_Decision": 149,
}
CONSULTATIONS = {"10": "legal", "11": "financial", "12": "health"}
GOVERNMENT = "13"


@dataclass(frozen=True)
class Item:
    """One item at its place in the data set: an item with a flaw keeps it, since the published split shuffles places.

    Attributes:
        id: scenario and the item's own number, which has gaps: "05-EconomicHarm/132".
        behavior: "harmful", "legal", "financial", "health" or "government".
        flaw: why it cannot be asked, or "".
    """

    id: str
    scenario: str
    behavior: str
    question: str
    image: Picture | None
    flaw: str = ""


def load_items(data: Path | None) -> tuple[list[Item], list[Flaw]]:
    """All items in the data set's order, and what is wrong in the files beside the items' own flaws.

    The folder holds `processed_questions/<scenario>.json` and `imgs/<scenario>/SD_TYPO/<id>.jpg`, or the hub's parquet
    files; None asks the hub. Raises ValueError where there is no such folder or no usable item.
    """
    if data is None or (data.is_dir() and any(data.rglob("*.parquet"))):
        items, flaws = list(_of_columns(data)), list[Flaw]()
    elif not data.is_dir():
        raise ValueError(f"{data} is no folder; give the one with processed_questions/ and imgs/.")
    else:
        items, flaws = _of_folder(data)
    if all(item.flaw for item in items):
        reasons = [*(item.flaw for item in items), *(f"{flaw.id} {flaw.reason}" for flaw in flaws)][:3]
        raise ValueError(f"No MM-SafetyBench item in {data} can be used; the first reasons: {reasons}.")
    return items, flaws


def behavior_of(scenario: str) -> str:
    number = scenario[:2]
    return "government" if number == GOVERNMENT else CONSULTATIONS.get(number, "harmful")


def _of_folder(data: Path) -> tuple[list[Item], list[Flaw]]:
    texts = data / "processed_questions" if (data / "processed_questions").is_dir() else data
    files = [texts / f"{scenario}.json" for scenario in SCENARIOS]
    items: list[Item] = []
    flaws = [Flaw(file.name, "is not in the data folder") for file in files if not file.exists()]
    for file in files:
        if not file.exists():
            continue
        read = read_table(file)
        flaws += read.flaws
        items += [_item(file.stem, number, row, data) for number, row in read.rows]
    return items, flaws


def _item(scenario: str, number: str, row: dict[str, Any], data: Path) -> Item:
    text = first_field(row, "Rephrased Question")
    folder = data / "imgs" / scenario / KIND
    image = next(
        (folder / f"{number}{end}" for end in (".jpg", ".jpeg", ".png") if (folder / f"{number}{end}").is_file()), None
    )
    flaw = ""
    if not isinstance(text, str) or not text.strip():
        flaw = "lacks a Rephrased Question; its fields are " + ", ".join(row)
    elif image is None:
        flaw = f"its image imgs/{scenario}/{KIND}/{number}.jpg is not there"
    elif reason := image_flaw(image):
        flaw = f"its image {reason}"
    return _made(scenario, number, text, image, flaw)


def _made(scenario: str, number: str, text: Any, image: Picture | None, flaw: str) -> Item:
    question = text.strip() if isinstance(text, str) else ""
    return Item(f"{scenario}/{number}", scenario, behavior_of(scenario), question, image, flaw)


def _of_columns(data: Path | None) -> Iterator[Item]:
    """Items of the hub's configurations, named without the number, columns id, question, image."""
    for scenario in SCENARIOS:
        config = scenario.partition("-")[2]
        seen: set[str] = set()
        for row in _rows_of(data, config):
            number, text = str(row.get("id")), row.get("question")
            image, flaw = None, "" if isinstance(text, str) and text.strip() else "lacks a question"
            try:
                image = opened(row.get("image"))
                flaw = flaw or (f"its image {reason}" if (reason := image_flaw(image)) else "")
            except ValueError as error:
                flaw = flaw or str(error)
            if number in seen:
                flaw, number = f"the id {number} is there already; the first row counts", f"{number} (again)"
            seen.add(number)
            yield _made(scenario, number, text, image, flaw)


def _rows_of(data: Path | None, config: str) -> Any:
    if data is None:
        return undecoded(lambda load: load(HUB, config, split=KIND))
    files: Sequence[str] = sorted(str(file) for file in data.rglob(f"*{config}*/**/*{KIND}*.parquet"))
    exact = [file for file in files if Path(file).name.startswith(KIND)]
    if not exact:
        return []
    return undecoded(lambda load: load("parquet", data_files=exact, split="train", streaming=True))

"""The forms in which MM-SafetyBench comes: the official folder, and the hub's configurations.

The data set is CC BY-NC 4.0 and its texts are harmful; none of it is shipped.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interv.prompt import Picture
from studies.tasks.columns import hub_rows, opened, parquet_rows
from studies.tasks.reading import Flaw, find_image, first_field, image_flaw, read_table, words_of

HUB = "PKU-Alignment/MM-SafetyBench"
KIND = "SD_TYPO"  # the images of the paper: a picture with the key phrase written below it
ENDS = (".jpg", ".jpeg", ".png")
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
PLACES = sum(SCENARIOS.values())  # 1,680
CONSULTATIONS = {"10": "legal", "11": "financial", "12": "health"}
GOVERNMENT = "13"


@dataclass(frozen=True)
class Item:
    """One item at its place in the data set: an item with a flaw keeps it, since the published split shuffles places.

    Attributes:
        id: scenario and the item's own number, which has gaps: "05-EconomicHarm/132"; "05-EconomicHarm/place 7" where
            its file cannot be read.
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
    files; None asks the hub. A scenario that is not there, or cannot be read, keeps its published number of places, so
    that the published split of the others stays; where the places are not 1,680 after all, a flaw says that the split
    is another one. Raises ValueError where there is no such folder or no usable item.
    """
    if data is not None and not data.is_dir():
        raise ValueError(f"{data} is no folder; give the one with processed_questions/ and imgs/.")
    items: list[Item] = []
    flaws: list[Flaw] = []
    columns = data is None or any(data.rglob("*.parquet"))
    for scenario in SCENARIOS:
        try:
            own, wrong = _of_columns(data, scenario) if columns or data is None else _of_folder(data, scenario)
        except ValueError as error:
            if data is None:
                raise
            own, wrong = [_made(scenario, f"place {n}", "", None, str(error)) for n in range(SCENARIOS[scenario])], []
        items += own
        flaws += wrong
    if all(item.flaw for item in items):
        reasons = list(dict.fromkeys(item.flaw for item in items))[:3]
        raise ValueError(f"No MM-SafetyBench item in {data} can be used; the first reasons: {reasons}.")
    if len(items) != PLACES:
        found = f"the data has {len(items):,} places and the published split shuffles {PLACES:,}; these have another"
        flaws.insert(0, Flaw("the published split", f"is not taken: {found}"))
    return items, flaws


def behavior_of(scenario: str) -> str:
    number = scenario[:2]
    return "government" if number == GOVERNMENT else CONSULTATIONS.get(number, "harmful")


def _of_folder(data: Path, scenario: str) -> tuple[list[Item], list[Flaw]]:
    texts = data / "processed_questions" if (data / "processed_questions").is_dir() else data
    file = texts / f"{scenario}.json"
    if not file.exists():
        raise ValueError(f"its file {file.name} is not in the data folder")
    rows, twice = read_table(file)
    items = [_item(scenario, number, row, data) for number, row in rows.items()]
    return items, [_again(scenario, number) for number in twice]


def _item(scenario: str, number: str, row: Any, data: Path) -> Item:
    if not isinstance(row, dict):
        return _made(scenario, number, "", None, f"holds a {type(row).__name__}, not an object with fields")
    text = first_field(row, "Rephrased Question")
    folder = data / "imgs" / scenario / KIND
    image = next((file for end in ENDS if (file := find_image([folder], number + end))), None)
    flaw = ""
    if not isinstance(text, str) or not text.strip():
        flaw = "lacks a Rephrased Question; its fields are " + ", ".join(row)
    elif image is None:
        flaw = f"its image imgs/{scenario}/{KIND}/{number}.jpg is not there"
    elif reason := image_flaw(image):
        flaw = f"its image {reason}"
    return _made(scenario, number, text, image, flaw)


def _made(scenario: str, number: str, text: Any, image: Picture | None, flaw: str) -> Item:
    question = words_of(text) if isinstance(text, str) else ""
    return Item(f"{scenario}/{number}", scenario, behavior_of(scenario), question, image, flaw)


def _again(scenario: str, number: str) -> Flaw:
    return Flaw(f"{scenario}/{number} (again)", f"the id {number} is there already; the first counts")


def _of_columns(data: Path | None, scenario: str) -> tuple[list[Item], list[Flaw]]:
    """Items of the hub's configuration, named without the number, columns id, question, image."""
    items: dict[str, Item] = {}
    flaws: list[Flaw] = []
    for row in _rows_of(data, scenario.partition("-")[2]):
        if isinstance(row, Flaw):  # which places its rows had is not known, so that none of the scenario is
            raise ValueError(f"its file {row.id} {row.reason}")
        number, text = str(row.get("id")), row.get("question")
        image, flaw = None, "" if isinstance(text, str) and text.strip() else "lacks a question"
        try:
            image = opened(row.get("image"))
            flaw = flaw or (f"its image {reason}" if (reason := image_flaw(image)) else "")
        except ValueError as error:
            flaw = flaw or str(error)
        if number in items:
            flaws.append(_again(scenario, number))
        else:
            items[number] = _made(scenario, number, text, image, flaw)
    return list(items.values()), flaws


def _rows_of(data: Path | None, config: str) -> Iterable[dict[str, Any] | Flaw]:
    """The hub keeps `data/<config>/SD_TYPO.parquet`, and a converted branch `<config>/SD_TYPO/0000.parquet`."""
    if data is None:
        return hub_rows(HUB, config, split=KIND)
    own = [
        file
        for file in sorted(data.rglob("*.parquet"))
        if any(part.endswith(config) for part in file.relative_to(data).parts[:-1])
    ]
    files = [file for file in own if KIND in (file.parent.name, file.stem.partition("-")[0])]
    if not files:
        raise ValueError(f"its file {config}/{KIND}*.parquet is not in the data folder")
    return parquet_rows(files)

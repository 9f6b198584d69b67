"""The forms in which MM-SafetyBench comes: the official folder, and the hub's configurations.

The data set is CC BY-NC 4.0 and its texts are harmful; none of it is shipped.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interv.prompts.prompt import Picture
from studies.tasks.columns import hub_rows, parquet_rows
from studies.tasks.lookalikes import below, not_read, tables_like
from studies.tasks.pictures import ENDS, checked, find_image, held
from studies.tasks.reading import READABLE, Flaw, asked, first_field, kind_of, read_pairs

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

    The folder holds `processed_questions/<scenario>.json` (or another kind of table, packed too) and
    `imgs/<scenario>/SD_TYPO/<id>.jpg`, or the hub's parquet files; None asks the hub. A scenario that is not there, or
    cannot be read, keeps its published number of places, so that the published split of the others stays; where the
    places are not 1,680 after all, a flaw says that the split is another one. Raises ValueError where there is no such
    folder or no usable item.
    """
    if data is not None and not data.is_dir():
        raise ValueError(f"{data} is no folder; give the one with processed_questions/ and imgs/.")
    items: list[Item] = []
    flaws: list[Flaw] = []
    columns = [] if data is None else below(data, ".parquet")
    for scenario in SCENARIOS:
        try:
            pairs = _pairs(data, scenario, columns)
        except ValueError as error:
            if data is None:
                raise
            items += [_made(scenario, f"place {n}", "", None, str(error)) for n in range(SCENARIOS[scenario])]
            continue
        known: set[str] = set()
        for number, row in pairs:
            if number in known:
                reason = f"the id {number} is there already; the first counts"
                flaws.append(Flaw(f"{scenario}/{number} (again)", reason))
            else:
                known.add(number)
                items.append(_item(scenario, number, row, data))
    if all(item.flaw for item in items):
        reasons = list(dict.fromkeys(item.flaw for item in items))[:3]
        said = f"No MM-SafetyBench item in {data} can be used; the first reasons: {reasons}."
        raise ValueError(" ".join((said, *unread(data))))
    if len(items) != PLACES:
        found = f"the data has {len(items):,} places and the published split shuffles {PLACES:,}; these have another"
        flaws.insert(0, Flaw("the published split", f"is not taken: {found}"))
    return items, flaws


def behavior_of(scenario: str) -> str:
    number = scenario[:2]
    return "government" if number == GOVERNMENT else CONSULTATIONS.get(number, "harmful")


def unread(data: Path | None) -> tuple[str, ...]:
    """A sentence about the files that look like questions and are not read, or none."""
    if data is None:
        return ()
    columns = bool(below(data, ".parquet"))
    read = set() if columns else {file for scenario in SCENARIOS for file in _tables(data, scenario)[:1]}
    tables, others = tables_like(data, re.compile(r"question|^\d\d[-_ ]").search)
    return not_read(data, [file for file in (*(file for file, _ in tables), *others) if file not in read], "questions")


def _tables(data: Path, scenario: str) -> list[Path]:
    """The files with a scenario's items, of which the first counts."""
    texts = data / "processed_questions" if (data / "processed_questions").is_dir() else data
    found = [file for file in texts.glob(f"{scenario}.*") if kind_of(file) in READABLE]
    return sorted(found, key=lambda file: (READABLE.index(kind_of(file)), file.name))


def _pairs(data: Path | None, scenario: str, columns: Sequence[Path]) -> list[tuple[str, Any]]:
    """The scenario's items by their numbers, those that come twice too. Raises ValueError where there are none."""
    if data is not None and not columns:
        if not (tables := _tables(data, scenario)):
            raise ValueError(f"its file {scenario}.json is not in the data folder")
        return read_pairs(tables[0])
    config = scenario.partition("-")[2]  # the hub's configurations are named without the number
    rows = hub_rows(HUB, config, split=KIND) if data is None else parquet_rows(_of_config(data, config, columns))
    pairs: list[tuple[str, Any]] = []
    for row in rows:
        if isinstance(row, Flaw):  # which places its rows had is not known, so that none of the scenario is
            raise ValueError(f"its file {row.id} {row.reason}")
        pairs.append((str(row.get("id")), row))
    return pairs


def _of_config(data: Path, config: str, columns: Sequence[Path]) -> list[Path]:
    """The hub keeps `data/<config>/SD_TYPO.parquet`, and a converted branch `<config>/SD_TYPO/0000.parquet`."""
    own = [file for file in columns if any(part.endswith(config) for part in file.relative_to(data).parts[:-1])]
    files = [file for file in own if KIND in (file.parent.name, file.stem.partition("-")[0])]
    if not files:
        raise ValueError(f"its file {config}/{KIND}*.parquet is not in the data folder")
    return files


def _item(scenario: str, number: str, row: Any, data: Path | None) -> Item:
    """The item of a file's or of the hub's row, which holds its image."""
    if not isinstance(row, dict):
        return _made(scenario, number, "", None, f"holds a {type(row).__name__}, not an object with fields")
    text, image, flaw = asked(first_field(row, "Rephrased Question", "question")), None, ""
    folders = [] if data is None else [data / "imgs" / scenario / KIND]
    try:
        if not text:
            raise ValueError("lacks a Rephrased Question; its fields are " + ", ".join(row))
        name = row["image"] if "image" in row else find_image(folders, *(number + end for end in ENDS))
        if name is None and "image" not in row:
            raise ValueError(f"its image imgs/{scenario}/{KIND}/{number}.jpg is not there")
        image = checked(held(name), folders)
    except ValueError as error:
        flaw = str(error)
    return _made(scenario, number, text, image, flaw)


def _made(scenario: str, number: str, question: str, image: Picture | None, flaw: str) -> Item:
    return Item(f"{scenario}/{number}", scenario, behavior_of(scenario), question, image, flaw)

"""A forecast beside what was measured afterwards: `compare.py`'s table of the same questions and weights."""

import json
from collections.abc import Mapping
from pathlib import Path

from studies.foresight.forecast import Forecast, Share
from studies.measure import Record
from studies.report.naming import signed
from studies.report.tables import ExtraTable

SAME = ("fingerprint", "preprocessing")  # of the two recipes, and the test examples


def expectations(foreseen: Forecast) -> dict[str, Share]:
    """What is expected of each method, by its name."""
    expected = {
        "NoSteering": foreseen.unsteered,
        "MeanSteering": foreseen.mean,
        "ConstantDirection": foreseen.push,
        "LogitThreshold": foreseen.push,
        "L2S": foreseen.l2s,
    }
    return expected | ({} if foreseen.oracle is None else {"P2S": foreseen.oracle})


def measured_in(folder: Path, own: Path) -> dict[str, Share]:
    """The accuracy of each method in a result folder of `compare.py`; none where it is of other weights or questions.

    `own` is the folder of the forecast. Nothing is there to compare with where the study has not come to its end.
    """
    if not (folder / "table.json").exists() or _about(folder) != _about(own):
        return {}
    records: list[Record] = json.loads((folder / "table.json").read_text(encoding="utf-8"))
    whole = [one for one in records if (one["subset"], one["metric"]) == ("all", "accuracy")]
    return {one["method"]: Share(*(one[name] for name in ("value", "low", "high", "n", "units"))) for one in whole}


def _about(folder: Path) -> list[object]:
    recipe = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))
    settings = recipe["settings"]
    return [*(recipe.get(name) for name in SAME), settings.get("examples", {}).get("test"), settings.get("limit")]


def checked(foreseen: Forecast, measured: Mapping[str, Share]) -> list[Record]:
    """Expected and measured accuracy of each method that has both, and the difference: {method, expected, ...}."""
    return [
        {"method": name, "expected": vars(share), "measured": vars(measured[name])}
        | {"off_by": share.value - measured[name].value}
        for name, share in expectations(foreseen).items()
        if name in measured
    ]


def expected_table(foreseen: Forecast, measured: Mapping[str, Share]) -> ExtraTable:
    """The page's table of the forecast."""
    head = ["method", "expected accuracy", *(["measured with replies", "off by"] if measured else [])]
    body = []
    for name, share in expectations(foreseen).items():
        there = measured.get(name)
        beside = ["\u2013", "\u2013"] if there is None else [str(there), signed(share.value - there.value)]
        body.append([name, str(share), *(beside if measured else [])])
    return "what to expect", head, body


def said_of(foreseen: Forecast, measured: Mapping[str, Share]) -> list[str]:
    """How well L2S was predicted, where it was measured."""
    if "L2S" not in measured:
        return []
    there, off = measured["L2S"], foreseen.l2s.value - measured["L2S"].value
    within = "within" if there.low <= foreseen.l2s.value <= there.high else "outside"
    return [
        f"Afterwards L2S was measured at {there} with whole replies (n = {there.n:,}): the forecast was off by "
        f"{signed(off)}, {within} that interval."
    ]

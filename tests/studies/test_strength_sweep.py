"""The strength sweep: the front of a trade-off, and a study that resumes to the same rows."""

import json
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from studies.fit.selection import Choice, Grid
from studies.measure import ALL, Record
from studies.report.figures.tradeoff import front, points, trade_off
from studies.run.results import read_rows
from studies.strength_sweep import Arguments, all_strengths, said, strength_sweep

pytestmark = pytest.mark.slow


def point(method: str, strength: float | None, effect: float, quality: float) -> Record:
    return {"method": method, "strength": strength, "reads": None, "writes": 3, "n": 10, "seeds": 1} | {
        "effect": [effect, effect - 0.1, effect + 0.1],
        "quality": [quality, quality - 0.1, quality + 0.1],
    }


def test_nothing_on_the_front_is_beaten_on_both_axes_and_everything_else_is():
    cloud = [point("L2S", s, e, q) for s, e, q in ((1, 0.7, 1.0), (2, 0.9, 0.8), (3, 0.6, 0.7), (0.5, 0.7, 0.9))]
    cloud += [point("P2S", 1, 1.0, 1.0), point("MeanSteering", 1, 0.95, 0.5), point("MeanSteering", 9, 0.7, 1.0)]
    kept = front(cloud)
    assert [(p["method"], p["strength"]) for p in kept] == [("L2S", 1), ("L2S", 2), ("MeanSteering", 1)]
    for other in (p for p in cloud if p not in kept and p["method"] != "P2S"):
        assert any(p["effect"][0] >= other["effect"][0] and p["quality"][0] >= other["quality"][0] for p in kept)


def test_points_join_effect_and_quality_of_a_setting():
    base = {"method": "L2S", "strength": 1.0, "reads": 6, "writes": 3, "subset": ALL, "n": 5, "seeds": 1}
    records = [base | {"metric": "accuracy", "value": 0.9, "low": 0.8, "high": 1.0}]
    records += [base | {"metric": "valid", "value": 1.0, "low": 1.0, "high": 1.0}]
    (joined,) = points(records, "accuracy")
    assert (joined["effect"], joined["quality"]) == ([0.9, 0.8, 1.0], [1.0, 1.0, 1.0])
    figure = trade_off([joined], "accuracy", "valid", least=0.9, chosen=[("L2S", 1.0, 6, 3)])
    assert figure.axes[0].get_xlabel() == "quality lost: well formed, relative to no steering"


def test_a_method_without_strength_has_one_setting():
    grid = Grid((3,), (6,), (0.5, 1.0))
    assert all_strengths(Choice("NoSteering", None, None, None, 0.5, 1.0), grid)[0].strength is None
    steered = all_strengths(Choice("L2S", 1.0, 6, 3, 0.5, 1.0), grid)
    assert [choice.strength for choice in steered] == [0.5, 1.0]


def test_the_study_measures_every_strength_and_resumes_to_the_same_rows(tmp_path, monkeypatch):
    methods, strengths = ("MeanSteering", "P2S"), (0.3, 1.0)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    arguments = Arguments(limit=2, out=whole, methods=methods, strength=strengths, screen=1, shown=1)
    records = strength_sweep(arguments)
    curves = json.loads((whole / "curves.json").read_text())
    assert {(c["method"], c["strength"]) for c in curves} == {
        *((method, strength) for method in methods for strength in strengths),
        ("NoSteering", None),
    }
    assert {record["n"] for record in records if (record["subset"], record["metric"]) == (ALL, "accuracy")} == {3}
    cut.mkdir()
    # The second run's figures are not looked at.
    drawn = (whole / "figures" / "trade-off.png").read_bytes()
    monkeypatch.setattr(Figure, "savefig", lambda self, file, **how: Path(file).write_bytes(drawn))
    content = (whole / "rows.jsonl").read_bytes()
    (cut / "rows.jsonl").write_bytes(content[: len(content) // 2])
    (cut / "recipe.json").write_bytes((whole / "recipe.json").read_bytes())
    again = strength_sweep(Arguments(**vars(arguments) | {"out": cut}))
    assert sorted(map(str, read_rows(cut))) == sorted(map(str, read_rows(whole)))
    assert str(again) == str(records)


def test_the_answer_says_where_quality_falls_below_the_budget():
    among = [point("NoSteering", None, 0.5, 1.0)]
    among += [point("L2S", s, e, q) for s, e, q in ((2.0, 0.95, 0.8), (0.5, 0.7, 1.0), (1.0, 0.9, 0.95))]
    (sentence,) = said([point("L2S", 0.5, 0.7, 1.0)], among, "accuracy")
    assert sentence == (
        "L2S leads at strength 0.5, which was chosen on other examples. Within the budget its accuracy is highest at 1 "
        "(0.900, n = 10), and strength 2 brings its quality below 90% of the unsteered share of well-formed replies "
        "(to 80%)."
    )
    assert (
        "no strength up to 1 brings its quality below 90%"
        in said([among[2]], [p for p in among if p["strength"] != 2], "a")[0]
    )
    assert said([], among, "accuracy") == []


def test_an_unknown_method_is_named():
    with pytest.raises(ValueError, match="'Magic' is no method; there are NoSteering"):
        strength_sweep(Arguments(methods=("Magic",)))

"""Whom steering helps: the counts, the cosines between inputs, and the study's files."""

import json

import numpy as np
import pytest
import torch

from studies.measure import Row
from studies.measure.geometry import alike, on_plane, plane
from studies.report.figures.inputs import cosines, helped_and_hurt, projection
from studies.steerability import Arguments, effects, steerability


def row(id: str, method: str, parsed: str, target: str = "yes") -> Row:
    strength = None if method == "NoSteering" else 1.0
    setting = {"method": method, "strength": strength, "reads": None, "writes": None, "seed": 0}
    return {"id": id, "subset": "s", "behavior": target, "target": target, "parsed": parsed} | setting


def test_helped_and_hurt_are_counted_against_the_unsteered_answer():
    before = [row("a", "NoSteering", "no"), row("b", "NoSteering", "yes"), row("c", "NoSteering", "yes")]
    after = [row("a", "L2S", "yes"), row("b", "L2S", "no"), row("c", "L2S", "")]
    found = {r["metric"]: r["value"] for r in effects(before + after) if r["subset"] == "all"}
    assert found["helped"] == pytest.approx(1 / 3)
    assert found["hurt"] == pytest.approx(2 / 3)
    assert (found["repaired_of_wrong"], found["broken_of_right"], found["changed"]) == (1.0, 1.0, 1.0)


def test_the_mean_cosine_is_that_of_all_pairs_of_different_inputs():
    generator = torch.Generator().manual_seed(0)
    vectors, behavior = torch.randn(9, 4, generator=generator), ("a",) * 5 + ("b",) * 4
    units = torch.nn.functional.normalize(vectors, dim=1)
    every = units @ units.T
    within = [float(every[i, j]) for i in range(5) for j in range(5) if i != j]
    found = {(r["one"], r["other"]): r for r in alike(vectors, behavior)}
    assert found["a", "a"]["value"] == pytest.approx(np.mean(within), abs=1e-5)
    assert found["a", "b"]["value"] == pytest.approx(float(every[:5, 5:].mean()), abs=1e-5)
    assert all(r["low"] <= r["value"] <= r["high"] for r in found.values())


def test_copies_of_an_input_in_a_resample_do_not_make_a_behaviour_look_alike():
    vectors = torch.eye(8)  # every pair of inputs is at a right angle
    (found,) = alike(vectors, ("a",) * 8)
    assert (found["value"], found["low"], found["high"]) == pytest.approx((0, 0, 0), abs=1e-12)


def test_the_plane_holds_the_variance_of_flat_points():
    generator = torch.Generator().manual_seed(0)
    flat = torch.randn(50, 2, generator=generator) @ torch.randn(2, 7, generator=generator) + 3
    directions, mean, shares = plane(flat)
    assert sum(shares) == pytest.approx(1)
    placed = on_plane(flat, directions, mean)
    spread = (flat - flat.mean(dim=0)).norm(dim=1).numpy()
    np.testing.assert_allclose(np.linalg.norm(placed, axis=1), spread, rtol=1e-4)


def test_figures_name_methods_and_behaviours():
    records = [
        {"method": "L2S", "strength": 1.0, "reads": 7, "writes": 4, "subset": part, "metric": metric}
        | {"value": 0.2, "low": 0.1, "high": 0.3}
        for part in ("all", "yes")
        for metric in ("helped", "hurt")
    ]
    assert [axis.get_title(loc="left") for axis in helped_and_hurt(records).axes] == ["all", "yes"]
    assert [tick.get_text() for tick in cosines(records).axes[0].get_yticklabels()] == ["L2S"]
    figure = projection([("own", np.zeros((2, 2)))], ("yes", "no"), (0.6, 0.3), [("L2S", np.zeros(2))])
    assert "60% of the variance" in figure.axes[0].get_xlabel()


@pytest.mark.slow
def test_the_study_writes_counts_cosines_and_geometry(tmp_path):
    arguments = Arguments(limit=3, out=tmp_path, methods=("MeanSteering", "L2S"), strength=(0.3,), screen=1, shown=1)
    records = steerability(arguments)
    assert {record["method"] for record in records} == {"NoSteering", "MeanSteering", "L2S"}
    counts, near, pairwise = (
        json.loads((tmp_path / f"{name}.json").read_text()) for name in ("effects", "cosines", "geometry")
    )
    assert {record["method"] for record in counts} == {"MeanSteering", "L2S"}
    assert {record["subset"] for record in near} >= {"all", "yes", "no"}
    assert len(pairwise) == 3  # two behaviours, within and between
    assert (tmp_path / "figures" / "projection.png").exists()
    assert " repairs " in (tmp_path / "table.md").read_text().splitlines()[2].split(". ")[0]
    # One example of each subset chose the settings, and is neither in the table nor among the replies.
    assert {record["n"] for record in records if (record["subset"], record["metric"]) == ("all", "accuracy")} == {6}
    assert "of 6 inputs" in " ".join((tmp_path / "report.html").read_text().split())

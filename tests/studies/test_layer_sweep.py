"""The layer sweep: a cell for every pair of layers, the same rows after a kill, and curves that are what they say."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from interv import Prompt
from methods import P2S, Contrasts, MeanSteering
from studies.fit.selection import Choice
from studies.layer_sweep import Arguments, along, layer_sweep, per_layers
from studies.measure.fidelity import agreement, averaged
from studies.report.figures.heatmaps import heat_maps, over_layers
from studies.report.validation import apart
from studies.run.results import read_rows
from studies.tasks.task import Example


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("layer_sweep")
    arguments = Arguments(limit=2, out=folder, writes=(2, 5), reads=(3, 7), strength=(1.0,), screen=1, shown=1)
    return arguments, layer_sweep(arguments), folder


@pytest.mark.slow
def test_every_pair_of_layers_has_a_cell(swept):
    _, records, folder = swept
    cells = json.loads((folder / "cells.json").read_text())
    pairs = {(cell["reads"], cell["writes"]) for cell in cells if cell["method"] == "L2S"}
    assert pairs == {(3, 2), (3, 5), (7, 2), (7, 5)}
    assert {cell["writes"] for cell in cells if cell["method"] == "P2S"} == {2, 5}
    assert {record["method"] for record in records} == {"NoSteering", "MeanSteering", "L2S", "P2S"}
    figures = {file.name for file in (folder / "figures").iterdir()}
    assert {"layers-L2S.png", "layers-L2S-dark.png", "context-L2S.png", "steered.png"} <= figures


@pytest.mark.slow
def test_the_page_opens_with_the_layers_that_were_found(swept):
    _, _, folder = swept
    opening = (folder / "table.md").read_text().splitlines()[2]
    best = {choice["method"]: choice for choice in json.loads((folder / "choices.json").read_text())}
    chosen = best["L2S"]
    assert f"L2S is steered best at L\\* = {chosen['writes']} with the context of L' = {chosen['reads']} (" in opening
    cells = [c for c in json.loads((folder / "cells.json").read_text()) if c["metric"] == "accuracy"]
    alike = sum(c["reach"] and c["kept"] and not c["chosen"] for c in cells if c["method"] == "L2S")
    assert f"of the 4 pairs of layers tried, {alike} more within the budget cannot be told from it" in opening
    assert "of the 2 layers tried" in opening


@pytest.mark.slow
def test_layers_are_chosen_on_other_examples_than_the_table_measures(swept):
    _, records, folder = swept
    rows = read_rows(folder)
    assert {row["split"] for row in rows} == {"val"}
    grid = {row["id"] for row in rows if row["method"] == "L2S" and row["id"].endswith("0000")}
    sizes = {record["n"] for record in records if (record["subset"], record["metric"]) == ("all", "accuracy")}
    assert sizes == {len({r["id"] for r in rows}) - len(grid)}


@pytest.mark.slow
def test_a_killed_sweep_resumes_to_the_same_rows(swept, tmp_path, monkeypatch):
    arguments, records, folder = swept
    drawn = (folder / "figures" / "steered.png").read_bytes()
    monkeypatch.setattr(Figure, "savefig", lambda self, file, **how: Path(file).write_bytes(drawn))
    whole = (folder / "rows.jsonl").read_bytes()
    (tmp_path / "rows.jsonl").write_bytes(whole[: len(whole) * 2 // 3])
    (tmp_path / "recipe.json").write_bytes((folder / "recipe.json").read_bytes())
    again = layer_sweep(Arguments(**vars(arguments) | {"out": tmp_path}))
    assert sorted(map(str, read_rows(tmp_path))) == sorted(map(str, read_rows(folder)))
    assert str(again) == str(records)  # nan is not equal to itself


def test_a_block_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="no block 8: its 8 blocks count from 0"):
        layer_sweep(Arguments(writes=(8,)))


def test_parts_are_disjoint_and_hold_every_subset():
    examples = [Example(f"{subset}{n}", Prompt(None, "?"), subset, "", "") for subset in "ab" for n in range(5)]
    chosen, judged = apart(examples, 3)
    assert [example.id for example in chosen] == ["a0", "a1", "b0", "b1"]
    assert {e.id for e in chosen} | {e.id for e in judged} == {e.id for e in examples}
    with pytest.raises(ValueError, match="one example"):
        apart(examples[:1], 3)


def test_the_best_strength_of_a_pair_of_layers_is_the_first_of_the_ranking():
    ranking = [Choice("L2S", s, r, 1, o, 1.0) for s, r, o in ((2.0, 0, 0.9), (1.0, 1, 0.8), (1.0, 0, 0.7))]
    assert per_layers(ranking) == ranking[:2]


def test_a_cell_outside_the_budget_gives_way_on_the_curve():
    cells = [
        {"method": "L2S", "writes": 1, "reads": 0, "kept": False, "value": 0.9},
        {"method": "L2S", "writes": 1, "reads": 2, "kept": True, "value": 0.6},
    ]
    assert along(cells, "writes") == cells[1:]


def contrasts() -> Contrasts:
    generator = torch.Generator().manual_seed(0)
    context, positive, negative = (torch.randn(40, 6, generator=generator) for _ in range(3))
    return Contrasts(context, positive, negative, ("a",) * 40, tuple(map(str, range(40))), 1, 2, "model")


def test_the_oracle_agrees_with_itself_and_the_mean_has_the_least_error_of_all_constants():
    pairs = contrasts()
    own = agreement(P2S.fit(pairs), pairs)
    np.testing.assert_allclose(own["cosine"], 1, rtol=1e-5)
    np.testing.assert_allclose(own["mse"], 0, atol=1e-7)
    mean = agreement(MeanSteering.fit(pairs), pairs)["mse"].mean()
    assert mean == pytest.approx(float(pairs.vectors.var(dim=0, correction=0).mean()), rel=1e-5)


def test_an_interval_over_seeds_is_wider_than_that_of_their_mean():
    generator = np.random.default_rng(0)
    examples, seeds = generator.normal(size=100), generator.normal(size=(5, 1))
    one, several = averaged((examples + seeds).mean(axis=0)), averaged(list(examples + seeds))
    assert one["value"] == pytest.approx(several["value"])
    assert several["high"] - several["low"] > 1.5 * (one["high"] - one["low"])
    assert (one["n"], one["seeds"], several["seeds"]) == (100, 1, 5)


def test_a_map_without_cells_is_refused_and_levels_are_drawn():
    with pytest.raises(ValueError, match="no cell for accuracy"):
        heat_maps([("accuracy", [])])
    base = {"metric": "cosine", "value": 0.5, "low": 0.4, "high": 0.6, "strength": 1.0, "writes": 2}
    records = [base | {"method": "MeanSteering", "reads": None}]
    records += [base | {"method": "L2S", "reads": layer} for layer in (1, 3)]
    figure = over_layers(records, "reads", ("cosine",), title="L'")
    assert [line.get_label() for line in figure.axes[0].get_lines()] == ["MeanSteering", "L2S"]

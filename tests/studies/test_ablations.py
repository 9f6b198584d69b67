"""The ablations: one factor at a time, a row for every variant and seed, and contexts put to one scale."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure

from methods import L2S, Contrasts, Query
from studies.ablations import Arguments, ablations, changed
from studies.fit.variants import (
    FACTORS,
    Variant,
    at_several_layers,
    drawn,
    fold_in,
    standardised_contexts,
    variants,
)
from studies.measure import ALL
from studies.measure.fidelity import dead
from studies.recipes.named import EMBEDDED_POPE, EMBEDDED_SAFETY
from studies.run.results import read_rows

pytestmark = pytest.mark.slow


def contrasts(pairs: int = 40, width: int = 6) -> Contrasts:
    generator = torch.Generator().manual_seed(0)
    context, positive, negative = (torch.randn(pairs, width, generator=generator) for _ in range(3))
    behavior = ("yes",) * (pairs // 4) + ("no",) * (pairs - pairs // 4)
    return Contrasts(context * 9 + 5, positive, negative, behavior, tuple(map(str, range(pairs))), 1, 2, "model")


@pytest.mark.parametrize("recipe", [EMBEDDED_POPE, EMBEDDED_SAFETY], ids=lambda recipe: recipe.name)
def test_a_variant_changes_one_factor_and_has_a_name_of_its_own(recipe):
    made = variants(recipe, reads=6, writes=3, n_layers=8, pairs=600, dictionary=True)
    assert made[0] == Variant()
    assert len({variant.name for variant in made}) == len(made)
    for variant in made[1:]:
        changed = replace(recipe, **variant.changes)
        others = (variant.pairs, variant.reads, variant.writes, variant.rate, variant.standardised)
        assert (changed != recipe) or others != (None, None, (), 1.0, False)
    assert [*dict.fromkeys(variant.factor for variant in made[1:])] == list(FACTORS)


def test_a_standardised_network_is_folded_into_one_that_reads_raw_contexts():
    train = contrasts()
    scaled, mean, size = standardised_contexts(train)
    torch.testing.assert_close(scaled.context.mean(dim=0), torch.zeros(6), atol=1e-5, rtol=0)
    assert float(scaled.context.square().mean()) == pytest.approx(1)
    network = L2S.fit(scaled, epochs=3, hidden=8)
    torch.testing.assert_close(
        fold_in(network, mean, size).predict(train.context),
        network.predict(scaled.context),
        rtol=1e-3,
        atol=1e-4,
    )


def test_drawn_pairs_keep_the_behaviours_shares_and_differ_between_seeds():
    train = contrasts()
    part = drawn(train, 8, seed=0)
    assert (len(part), part.behavior.count("yes")) == (8, 2)
    assert part.id != drawn(train, 8, seed=1).id
    assert drawn(train, 40, seed=0) is train


def test_the_strength_is_divided_among_layers():
    parts = [replace(L2S.fit(contrasts(), epochs=1), writes=layer) for layer in (1, 2)]
    query = Query(torch.ones(3, 6))
    ops = at_several_layers(parts, "response").ops(query, 2.0)
    assert [(op.site.layer, op.strength) for op in ops] == [(1, 1.0), (2, 1.0)]
    assert len(at_several_layers(parts[:1], "response").ops(query, 2.0)) == 1


def test_every_variant_has_its_rows_and_a_killed_study_goes_on(tmp_path, monkeypatch):
    factors = ("scope", "layers", "hidden")
    arguments = Arguments(limit=2, out=tmp_path, strength=(1.0,), seeds=2, screen=1, judged=1, factors=factors, shown=1)
    records = ablations(arguments)
    assert {record["method"] for record in records} == {"NoSteering", "MeanSteering", "L2S"}
    assert {record["variant"] for record in records} >= {None, "scope=generated", "scope=all", "hidden=4"}
    assert {record["seeds"] for record in records if record["method"] == "L2S" and record["subset"] == ALL} == {2}
    cheap = json.loads((tmp_path / "ablations.json").read_text())
    assert {record["metric"] for record in cheap} == {"cosine", "mse", "accuracy", "valid"}
    own = [record for record in cheap if (record["method"], record["metric"]) == ("L2S", "accuracy")]
    default = next(record for record in own if record["variant"] is None)
    assert len(own) == len({record["variant"] for record in own})
    assert default["difference"] == 0
    lines = {r["variant"]: r for r in records if (r["method"], r["subset"], r["metric"]) == ("L2S", ALL, "accuracy")}
    for record in own:  # the page shows one interval and one difference for one number
        same = ("value", "low", "high", "difference", "difference_low", "difference_high")
        assert [record[name] for name in same] == [lines[record["variant"]][name] for name in same]
    assert "single changes to L2S" in (tmp_path / "report.html").read_text()
    drawn_once = (tmp_path / "figures" / "ablations.png").read_bytes()
    monkeypatch.setattr(Figure, "savefig", lambda self, file, **how: Path(file).write_bytes(drawn_once))
    rows = (tmp_path / "rows.jsonl").read_bytes()
    (tmp_path / "rows.jsonl").write_bytes(rows[: len(rows) * 3 // 4])
    with monkeypatch.context() as patch:
        patch.setattr("studies.ablations.trained", lambda *args: pytest.fail("it was trained again"))
        assert str(ablations(arguments)) == str(records)
    assert len(read_rows(tmp_path)) == len(rows.splitlines())


def test_an_unknown_factor_is_named_before_anything_is_done(tmp_path):
    with pytest.raises(ValueError, match="'depth' is no factor; there are hidden"):
        ablations(Arguments(factors=("depth",), out=tmp_path / "results"))
    assert not (tmp_path / "results").exists()


def test_a_unit_is_dead_where_no_context_switches_it_on():
    contexts = torch.tensor([[1.0, 0.0], [2.0, 1.0]])
    network = L2S(0, 0, "", torch.tensor([[1.0, 0], [-1, 0], [-1, -2]]), torch.zeros(3), torch.ones(2, 3))
    assert dead(network, contexts) == pytest.approx(2 / 3)
    assert dead(replace(network, encoder_bias=torch.tensor([0.0, 1.5, 0.0])), contexts) == pytest.approx(1 / 3)


def test_the_finding_counts_the_changes_that_their_interval_tells_from_nothing():
    base = {"metric": "accuracy", "difference_low": -0.1, "difference_high": 0.1, "difference": 0.0}
    records = [
        base | {"factor": "", "level": ""},
        base | {"factor": "hidden", "level": "4"},
        base | {"factor": "reads", "level": "0", "difference": -0.2, "difference_high": -0.1},
        base | {"factor": "reference", "level": "NoSteering", "difference": -0.3, "difference_high": -0.2},
    ]
    (main, chance) = changed(records, "accuracy")
    assert main.startswith("Of 2 single changes")
    assert main.endswith("1 lowers it (reads 0 \u22120.200) and none raises it.")
    assert "0.1 miss by chance" in chance

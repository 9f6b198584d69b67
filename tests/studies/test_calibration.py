"""Calibration keeps its budget and its cost, on a synthetic task and on a real model."""

import json
from dataclasses import replace

import numpy as np
import pytest

from interv import VLM, Prompt
from methods import MeanSteering, NoSteering, capture_contrasts
from studies.calibrate.regret import halved, regret_figure, regrets
from studies.calibrate.search import Account, Search, interleaved
from studies.calibrate.summary import said, summary
from studies.calibrate.trials import Trials, unsteered
from studies.calibration import Arguments, calibrate, calibration
from studies.fit.selection import STRENGTHS, thinned
from studies.fit.setting import Setting
from studies.measure import Row
from studies.run.results import Results, read_rows
from studies.tasks import TASKS, Example

TASK = TASKS["shapes_pope"]()
LAYERS = (1, 2, 3)
COUNT = 240


def examples(count: int = COUNT) -> list[Example]:
    """Two subsets, two behaviours."""
    kinds = [("a", "yes"), ("a", "no"), ("b", "yes"), ("b", "no")]
    return [
        Example(f"{number:03d}", Prompt(None, "?"), *kinds[number % 4], kinds[number % 4][1]) for number in range(count)
    ]


def quality(strength: float, layer: int) -> float:
    """The share of well-formed replies: one up to a strength that the layer decides, then falling."""
    return float(np.clip(1.2 - 0.1 * strength * (1 + layer), 0, 1))


def effect(strength: float, layer: int) -> float:
    return 0.4 + 0.2 * layer * min(strength, 1.0)


def model(seed: int, broken: float = 0.0):
    """Replies and divergences of a model of which one knows what each setting does."""
    draws = np.random.default_rng(seed).random((COUNT, 2))

    def row(setting: Setting | None, example: Example) -> Row:
        strength, layer = (0.0, 1) if setting is None else (setting.strength, setting.steerer.writes)
        luck = draws[int(example.id)]
        valid = luck[0] < quality(strength, layer) - (broken if setting is not None else 0.0)
        right = valid and luck[1] < effect(strength, layer)
        wrong = {"yes": "no", "no": "yes"}[example.target]
        parsed = (example.target if right else wrong) if valid else ""
        return {"target": example.target, "parsed": parsed, "valid": valid, "reply": "", "question": ""}

    def reply(settings, part):
        return [[row(setting, example) for example in part] for setting in settings]

    def diverge(settings, part):
        level = [[(setting.strength * setting.steerer.writes) ** 2] for setting in settings]
        return np.repeat(np.array(level), len(part), axis=1)

    return reply, diverge


def search(seed: int, **more) -> Search:
    settings = [Setting(NoSteering(0, layer, "m"), strength) for layer in LAYERS for strength in STRENGTHS]
    return Search(TASK, settings, interleaved(examples(), seed), *model(seed, more.pop("broken", 0.0)), **more)


@pytest.mark.parametrize("seed", range(8))
def test_the_choice_keeps_budget_and_cost_and_is_near_the_best(seed):
    one = search(seed)
    found = one.run()
    assert found.index is not None
    assert found.quality >= 0.9 * found.unsteered[1]
    assert found.cost <= 0.25 * len(one.settings) * COUNT  # a finalist that breaks the budget costs one more
    scores = one.measure(list(range(len(one.settings))), COUNT)
    best = max(value for value, share in scores.values() if share >= 0.9)
    assert found.effect >= 0.9 * best


def test_strengths_far_beyond_the_budget_are_not_answered_by_the_halving():
    one = search(0)
    found = one.run()
    beyond = [i for i, setting in enumerate(one.settings) if quality(setting.strength, setting.steerer.writes) < 0.4]
    asked = [sum(index == i for index, _ in one.account.replied) for i in beyond]
    assert max(asked) <= 12 < COUNT  # at most a step of the bisection looked at them
    assert found.tried < len(one.settings)


def test_where_nothing_keeps_the_budget_nothing_is_steered():
    found = search(0, broken=0.5).run()
    assert (found.index, found.effect, found.quality) == (None, *found.unsteered)


def test_every_reply_is_counted_once_and_a_logit_row_as_a_token():
    account = Account({(0, "a"), (None, "a")}, compared=20)
    assert account.cost(tokens=10.0) == 4.0
    one = search(1)
    again = one.measure([3], 10), one.measure([3], 20)
    assert again[0].keys() == again[1].keys()
    assert len(one.account.replied) == 20


def test_halves_are_disjoint_and_even():
    half, rest = halved(examples(), 3)
    assert not {e.id for e in half} & {e.id for e in rest}
    assert len(half) == len(rest) == COUNT // 2
    kinds = [(e.subset, e.behavior) for e in half]
    assert all(abs(kinds.count(kind) - COUNT // 8) <= 4 for kind in set(kinds))


def test_regret_is_none_where_the_search_may_cost_the_whole_grid():
    records = regrets(search(2, divergence=False), shares=(3.0,), halvings=1)
    whole = [record for record in records if not record["pruned"]]
    assert [record["effect"] for record in whole] == [record["full"] for record in whole]
    lines = summary([{"method": "L2S"} | record for record in records])
    assert "of the whole grid's effect" in said(lines[0])
    assert "the grid gains nothing" in said(lines[0] | {"gain": float("nan")})
    assert len(regret_figure(lines).axes) == 1


@pytest.fixture(scope="module")
def tiny():
    return VLM.load("tiny-llava")


def test_a_fitted_method_is_calibrated_and_a_second_call_asks_for_nothing_new(tiny, tmp_path):
    pairs = capture_contrasts(tiny, thinned_pairs(4), progress=False, pool="mean")
    steerers = [MeanSteering.fit(pairs.at(6, layer)) for layer in (2, 4)]
    part = thinned(TASK.prompts("val"), 4)
    with Results.open(tmp_path, {"task": TASK.name}) as results:
        first = calibrate(tiny, steerers, TASK, 0.1, examples=part, strengths=(0.5, 2.0), results=results)
        count = len(read_rows(tmp_path))
        second = calibrate(tiny, steerers, TASK, 0.1, examples=part, strengths=(0.5, 2.0), results=results)
    assert count == first.found.replies == len(read_rows(tmp_path))
    assert second.found == first.found
    assert first.strength in (0.0, 0.5, 2.0)
    assert first.found.quality >= 0.9 * first.found.unsteered[1]
    with pytest.raises(ValueError, match="0 steerers"):
        calibrate(tiny, [], TASK)


def thinned_pairs(count: int):
    return thinned_by_id(TASK.pairs("train"), {example.id for example in thinned(TASK.prompts("train"), count)})


def thinned_by_id(pairs, wanted):
    return [pair for pair in pairs if pair.id in wanted]


def test_divergence_is_nothing_without_strength_and_grows_with_it(tiny, tmp_path):
    pairs = capture_contrasts(tiny, thinned_pairs(3), progress=False, pool="mean")
    steerer = replace(MeanSteering.fit(pairs.at(6, 4)), vector=pairs.at(6, 4).vectors[0])
    settings = [Setting(steerer, strength) for strength in (0.0, 0.1, 1.0)]
    with Results.open(tmp_path, {}) as results:
        trials = Trials(tiny, TASK, results, unsteered(settings), batch_size=16)
        levels = trials.diverge(settings, thinned(TASK.prompts("val"), 1)).mean(axis=1)
    assert levels[0] == pytest.approx(0, abs=1e-6)
    assert levels[0] < levels[1] < levels[2]


@pytest.mark.slow
def test_the_study_writes_its_regret(tmp_path):
    arguments = Arguments(
        limit=3, out=tmp_path, methods=("MeanSteering",), writes=(3,), strength=(0.3, 1.0), halvings=1, shown=1
    )
    records = calibration(arguments)
    assert {record["method"] for record in records} <= {"NoSteering", "MeanSteering"}
    regret = json.loads((tmp_path / "regret.json").read_text())
    assert {(record["method"], record["halving"]) for record in regret} == {("MeanSteering", 0)}
    assert (tmp_path / "figures" / "cost.png").exists()
    assert (tmp_path / "figures" / "divergence.png").exists()
    page = (tmp_path / "report.html").read_text()
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert "MeanSteering: " in lines[2]
    assert lines[4] == "## the search against the whole grid, mean of 2 halves"
    assert sum(line.startswith("| MeanSteering | replies alone | 20% |") for line in lines) == 1
    assert "The search against the whole grid" in page
    assert "the image of" in page
    assert "no image" not in page


@pytest.mark.slow
def test_choices_are_judged_on_test_examples_when_asked(tmp_path):
    """Also of a study that is finished, which then answers the test examples alone."""
    arguments = Arguments(
        limit=3, out=tmp_path, methods=("MeanSteering",), writes=(3,), strength=(0.3, 1.0), halvings=1, shown=1
    )
    calibration(arguments)
    assert not (tmp_path / "test.json").exists()
    before = read_rows(tmp_path)
    assert {row["split"] for row in before} == {"val"}
    calibration(replace(arguments, test=True))
    (record,) = json.loads((tmp_path / "test.json").read_text())
    added = read_rows(tmp_path)[len(before) :]
    assert {row["split"] for row in added} == {"test"}
    right = [row["parsed"] == row["target"] for row in added if row["method"] == "NoSteering"]
    assert record["n"] == len(right)
    assert record["unsteered"] == pytest.approx(np.mean(right))
    assert 0 <= record["effect"] <= 1

"""Will steering help here? The study's passes against the model's own answers, and its files."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from interv import VLM, Site
from methods import P2S
from studies.fit.selection import Grid
from studies.fit.setting import Setting
from studies.foresight.forecast import Share, foresee
from studies.foresight.pushes import Pushes
from studies.foresight.readings import read
from studies.foresight.words import Words
from studies.headroom import Arguments, headroom
from studies.recipes import RECIPES
from studies.report.foreseen import expectations, measured_in, said_of
from studies.run.results import read_rows
from studies.tasks import Example
from studies.tasks.shapes_pope import ShapesPope

SMALL = Arguments(limit=4, pairs=2, strength=(0.5, 2.0), shown=1)
WAYS = {"NoSteering", "LogitThreshold", "LinearProbe", "ConstantDirection", "P2S"}


@pytest.fixture(scope="module")
def model() -> VLM:
    return VLM.load("tiny-llava")


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    return ShapesPope().prompts("val")[:6]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results") / "pope"
    headroom(replace(SMALL, out=folder))
    return folder


def test_readings_are_the_models_own_states_logits_and_first_words(model: VLM, examples: list[Example]) -> None:
    words = Words.of(model, examples[0].prompt)
    readings = read(model, examples, words, layers=[3, 7], batch_size=4)
    prompts = [example.prompt for example in examples]
    states = model.capture(prompts, [Site(3), Site(7)])
    torch.testing.assert_close(readings.at(7), states[Site(7)], atol=1e-4, rtol=1e-4)
    tokenizer = model.processor.tokenizer
    yes, no = (tokenizer.encode(word, add_special_tokens=False)[0] for word in ("yes", "no"))
    logits = model.logits(prompts)
    torch.testing.assert_close(readings.margins, logits[:, yes] - logits[:, no], atol=1e-4, rtol=1e-4)
    replies = model.generate(prompts, max_new_tokens=12)
    assert list(readings.said) == [ShapesPope().parse(reply) for reply in replies]
    assert readings.yes.tolist() == [example.target == "yes" for example in examples]


def test_a_push_is_seen_in_the_first_token_as_the_model_would_say_it(model: VLM, examples: list[Example]) -> None:
    words, recipe = Words.of(model, examples[0].prompt), RECIPES["embedded_pope"]
    tried = Pushes(model, ShapesPope(), recipe, words, batch_size=4)
    bank = tried.contrasts("val", examples, [3])
    settings = tried.oracle(bank, Grid((3,), (3,), (0.5, 1.0, 2.0)))
    said = tried.answers(examples, settings, bank)
    prompts, contrasts = [example.prompt for example in examples], bank.at(3, 3)
    for setting, own in zip(settings, said, strict=True):
        ops = P2S.fit(contrasts).add(contrasts.vectors, setting.strength)
        assert own == words.said(model.logits(prompts, ops))
    best: Setting = tried.best(examples, settings, bank)
    right = [sum(w == e.target for w, e in zip(own, examples, strict=True)) for own in said]
    assert best is settings[right.index(max(right))]  # the first of equals, which is the weakest


def test_words_that_begin_alike_are_refused(model: VLM, examples: list[Example]) -> None:
    with pytest.raises(ValueError, match="'yes' and 'yes' begin with the same token for tiny-llava"):
        Words.of(model, examples[0].prompt, ("yes", "yes"))


def test_a_forecast_needs_yes_and_no(model: VLM, examples: list[Example]) -> None:
    odd = [replace(examples[0], target="refuse"), *examples[1:]]
    with pytest.raises(ValueError, match="wants 'refuse'; a forecast needs targets of yes and no"):
        foresee(model, odd, examples)


def test_a_forecast_is_to_be_had_without_the_study(model: VLM, examples: list[Example]) -> None:
    found = foresee(model, examples[:4], examples[4:], layers=[7])
    assert (found.layer, found.l2s.n) == (7, 2)
    json.dumps(found.card())


def test_a_task_of_other_answers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="shapes_safety wants 'answer', 'defer', 'refuse'"):
        headroom(replace(SMALL, task="shapes_safety", out=tmp_path))


@pytest.mark.slow
def test_the_study_leaves_all_its_files_and_opens_with_the_answer(finished: Path) -> None:
    for name in ("recipe", "table", "forecast", "blocks", "questions"):
        assert json.loads((finished / f"{name}.json").read_text()), name
    for name in ("accuracy", "knowledge", "margins"):
        assert (finished / "figures" / f"{name}-dark.png").exists(), name
    page = " ".join((finished / "report.html").read_text().split())
    opening = page.partition('class="finding">')[2].partition("</p>")[0]
    assert "L2S is expected at" in opening or "it is expected at" in opening
    assert "what each block's last prompt token knows" in (finished / "table.md").read_text()


@pytest.mark.slow
def test_every_way_answers_the_test_examples_by_a_word(finished: Path) -> None:
    rows = read_rows(finished)
    assert {row["method"] for row in rows} == WAYS
    assert {row["split"] for row in rows} == {"test"}
    counts = {method: sum(row["method"] == method for row in rows) for method in WAYS}
    assert counts == dict.fromkeys(WAYS, 12) | {"P2S": 6}
    assert {row["reply"] for row in rows} <= {"yes", "no", ""}


@pytest.mark.slow
def test_the_forecast_is_what_the_table_says(finished: Path) -> None:
    records = json.loads((finished / "table.json").read_text())
    whole = {r["method"]: r["value"] for r in records if (r["subset"], r["metric"]) == ("all", "accuracy")}
    found = json.loads((finished / "forecast.json").read_text())
    assert found["unsteered"]["value"] == whole["NoSteering"]
    assert found["threshold"]["value"] == whole["LogitThreshold"]
    assert found["probe"]["value"] == whole["LinearProbe"]
    assert found["oracle"]["value"] == whole["P2S"]


def as_measured(folder: Path, own: Path, **changed: object) -> Path:
    """A result folder of `compare.py` about the same questions, in which L2S reached 0.75."""
    recipe = json.loads((own / "recipe.json").read_text())
    record = {"method": "L2S", "subset": "all", "metric": "accuracy"}
    record |= {"value": 0.75, "low": 0.5, "high": 1.0, "n": 12, "units": 12}
    folder.mkdir()
    (folder / "recipe.json").write_text(json.dumps(recipe | changed))
    (folder / "table.json").write_text(json.dumps([record]))
    return folder


@pytest.mark.slow
def test_a_second_run_makes_nothing_anew_and_says_how_well_l2s_was_predicted(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (finished / "rows.jsonl").read_bytes()
    for name in ("studies.run.first_words.read", "studies.foresight.pushes.capture_contrasts"):
        monkeypatch.setattr(name, lambda *args, **kwargs: pytest.fail("it ran again"))
    monkeypatch.setattr("studies.headroom.draw", lambda *args: [])  # half of the time
    there = as_measured(tmp_path / "compare", finished)
    headroom(replace(SMALL, out=finished, compared=there))
    (check,) = json.loads((finished / "check.json").read_text())
    assert check["measured"]["value"] == 0.75
    assert check["off_by"] == check["expected"]["value"] - 0.75
    assert "L2S was measured at 0.750" in (finished / "table.md").read_text()
    assert (finished / "rows.jsonl").read_bytes() == before


@pytest.mark.slow
def test_results_of_other_weights_or_questions_are_no_check(finished: Path, tmp_path: Path) -> None:
    assert measured_in(as_measured(tmp_path / "same", finished), finished)
    assert not measured_in(as_measured(tmp_path / "weights", finished, fingerprint="0" * 16), finished)
    settings = json.loads((finished / "recipe.json").read_text())["settings"]
    assert not measured_in(as_measured(tmp_path / "few", finished, settings=settings | {"limit": 3}), finished)
    assert not measured_in(tmp_path / "nowhere", finished)


def test_a_forecast_inside_the_measured_interval_is_said_to_be_so(model: VLM, examples: list[Example]) -> None:
    found = foresee(model, examples[:4], examples[4:], layers=[7])
    found = replace(found, l2s=Share(0.9, 0.8, 1.0, 2, 2))
    (near,) = said_of(found, {"L2S": Share(0.92, 0.88, 0.95, 2, 2)})
    (far,) = said_of(found, {"L2S": Share(0.96, 0.94, 0.98, 2, 2)})
    assert "off by \u22120.020, within" in near
    assert "off by \u22120.060, outside" in far
    assert said_of(found, {}) == []
    assert "P2S" not in expectations(found)


@pytest.mark.slow
def test_check_fits_and_decodes(tmp_path: Path) -> None:
    headroom(replace(SMALL, out=tmp_path, strength=(1.0,), check=True))
    checks = {one["method"] for one in json.loads((tmp_path / "check.json").read_text())}
    assert checks == {"NoSteering", "MeanSteering", "ConstantDirection", "LogitThreshold", "L2S", "P2S"}

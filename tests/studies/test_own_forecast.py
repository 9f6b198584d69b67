"""What a fit expected stands in its card beside what came out, or one sentence says why nothing could be told."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from interv_cli.main import run
from methods import read_card
from studies.fit.controls import answer_words
from studies.own import FitArguments, fit
from studies.own.foretold import Foretold, foretold, read_off
from studies.run.bench import Bench
from studies.run.first_words import readings
from studies.tasks.examples_file import OwnTask, read_data
from tests.studies.world_file import without_targets, write_world


class Stopped(Exception):
    """A test has seen enough of a fit."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("world"), val=40)


def told(data: Path, out: Path, look: Any = foretold, **changed: Any) -> Any:
    """What `look` says of the bench of a fit, which goes no further."""
    seen = []

    def stop(bench: Bench) -> Foretold:
        seen.append(look(bench))
        raise Stopped

    with pytest.raises(Stopped):
        fit(FitArguments(data=str(data), out=out, model="tiny-llava", batch_size=16, **changed), forecast=stop)
    return seen[0]


def rewritten(data: Path, name: str, **values: Any) -> Path:
    """The same rows in another file beside it, with these fields made anew by functions of the row."""
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    other = data.with_name(name)
    other.write_text("".join(json.dumps(row | {k: make(row) for k, make in values.items()}) + "\n" for row in rows))
    return other


@pytest.mark.slow
def test_the_command_sets_the_forecast_beside_what_came_out(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["fit", str(world), "--model", "tiny-llava", "--out", str(tmp_path / "mine"), "--max-new-tokens", "12"]
    words += ["--method", "MeanSteering", "--writes", "3", "--reads", "7", "--strength", "1.0", "--batch-size", "64"]
    assert run(words) == 0
    shown = capsys.readouterr().out
    card = read_card(tmp_path / "mine")["about"]
    said, expected = card["forecast"]["said"], {one["method"]: one for one in card["forecast"]["expected"]}
    assert f"Forecast before the fit: {said[0]}" in shown
    assert "L2S is expected at" in said[0] or "it is expected at" in said[0]
    assert "MeanSteering was expected at" in shown
    accuracies = {
        one["method"]: one["value"] for one in card["results"] if (one["metric"], one["subset"]) == ("accuracy", "all")
    }
    for name in ("NoSteering", "MeanSteering"):
        assert expected[name]["measured"]["value"] == accuracies[name]
        off = expected[name]["expected"]["value"] - accuracies[name]
        assert expected[name]["off_by"] == pytest.approx(off)
        assert expected[name]["expected"]["n"] == card["data"]["splits"]["val"]
    assert expected["L2S"]["measured"] is None
    page = (tmp_path / "mine" / "README.md").read_text()
    assert "## What was forecast before the fit" in page
    assert said[0] in page
    assert "| MeanSteering | 0." in page.partition("forecast of the accuracy")[2]


def test_what_the_contrasts_tell_is_what_a_pass_over_the_prompts_tells(world: Path, tmp_path: Path) -> None:
    """So no prompt runs once more for the forecast."""
    from studies.foresight.words import Words

    def both(bench: Bench) -> Any:
        words = Words.of(bench.vlm, bench.examples("train")[0].prompt, answer_words(bench.task))
        return read_off(bench, words, "val"), readings(bench, words, "val")

    kept, passed = told(world, tmp_path / "mine", both)
    assert (kept.said, kept.id, kept.units) == (passed.said, passed.id, passed.units)
    assert torch.equal(kept.yes, passed.yes)
    torch.testing.assert_close(kept.margins, passed.margins, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(kept.at(7), passed.at(7), atol=1e-3, rtol=1e-3)


def test_contrasts_are_enough_where_they_hold_the_last_block(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("studies.run.first_words.read", lambda *args, **kwargs: pytest.fail("the prompts ran again"))
    assert told(world, tmp_path / "mine").forecast.l2s.n == 8


def test_without_the_last_block_the_prompts_run_once_and_are_kept(world: Path, tmp_path: Path) -> None:
    found = told(world, tmp_path / "mine", reads=(3,), writes=(3,))
    assert found.forecast.layer == 3
    assert {one.name for one in (tmp_path / "mine" / "work" / "readings").iterdir()} == {"train-000000", "val-000000"}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"target": lambda row: {"yes": "there", "no": "absent"}[row["target"]]}, "these rows have absent, there"),
        ({"target": lambda row: "yes"}, "both among the training rows, and these rows have yes"),
        ({"positive": lambda row: "a cat", "negative": lambda row: "a dog"}, "begin with the same token"),
    ],
)
def test_where_no_forecast_makes_sense_one_sentence_says_why(
    world: Path, tmp_path: Path, changed: dict[str, Any], reason: str
) -> None:
    found = told(rewritten(world, "other.jsonl", **changed), tmp_path / "mine")
    assert found.forecast is None
    (sentence,) = found.sentences
    assert sentence.startswith("No forecast was made: ")
    assert reason in sentence
    assert found.card([]) == {"said": [sentence], "expected": []}


def test_rows_without_targets_have_no_forecast(world: Path, tmp_path: Path) -> None:
    (sentence,) = told(without_targets(world), tmp_path / "mine").sentences
    assert sentence == (
        "No forecast was made: it needs targets of yes and no, both among the training rows, and these rows have none."
    )


def test_a_model_that_begins_with_other_words_has_no_forecast(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("studies.foresight.words.Words.said", lambda words, logits: [""] * len(logits))
    (sentence,) = told(world, tmp_path / "mine").sentences
    assert "0 of 8 validation replies begin with yes or no" in sentence


def test_the_words_are_those_that_the_answers_begin_with_whatever_the_behaviour(world: Path) -> None:
    """Rows of one's own mostly name no behaviour, and a model that says "Yes" has another token for "yes"."""
    cased = {
        "behavior": lambda row: "",
        "positive": lambda row: {"yes": "Yes, there is.", "no": "No, there is none."}[row["target"]],
        "negative": lambda row: {"yes": "No.", "no": "Yes."}[row["target"]],
    }
    data = read_data(rewritten(world, "cased.jsonl", **cased), progress=False)
    recipe = FitArguments(data="cased.jsonl", out=Path("mine"), model="tiny-llava").recipe()
    assert answer_words(OwnTask(data, recipe)) == ("Yes", "No")

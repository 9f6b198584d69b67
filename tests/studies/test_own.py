"""A file of examples becomes a steerer that can be asked; what its card says was measured on rows that it never saw."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from interv import VLM, Prompt
from methods import MeanSteering, NoSteering, Query, load_steerer, read_card
from methods.asking import ask
from studies.own import FitArguments, Steered, ask_file, fit
from studies.own.forced import answer_ids, divergences, log_likelihoods
from studies.run.results import read_rows
from tests.studies.world_file import without_targets, write_world

SMALL: dict[str, Any] = {"model": "tiny-llava", "reads": (3,), "writes": (3,), "strength": (1.0,), "batch_size": 64}
SMALL |= {"max_new_tokens": 12, "method": "MeanSteering"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("world"), val=30)


@pytest.fixture(scope="module")
def tiny() -> VLM:
    return VLM.load("tiny-llava")


@pytest.fixture(scope="module")
def fitted(world: Path) -> Path:
    out = world.parent / "steerer"
    fit(FitArguments(data=str(world), out=out, **SMALL))
    return out


def prompts(world: Path, count: int = 2) -> list[Prompt]:
    rows = [json.loads(line) for line in world.read_text().splitlines()][:count]
    return [Prompt(world.parent / row["image"], row["question"]) for row in rows]


@pytest.mark.slow
def test_a_card_says_effect_cost_and_choice(world: Path, fitted: Path) -> None:
    about = read_card(fitted)["about"]
    measured = {record["method"] for record in about["results"] if record["subset"] == "all"}
    assert measured == {"NoSteering", "PromptSteering", "MeanSteering"}
    assert {one["baseline"] for one in about["against"]} == {"NoSteering", "PromptSteering"}
    assert {one["method"] for one in about["neutral"]} == measured
    assert next(one["value"] for one in about["neutral"] if one["method"] == "NoSteering") == pytest.approx(0, abs=1e-6)
    assert sum(about["data"]["splits"].values()) == about["data"]["rows"] == 30
    assert (fitted / "README.md").is_file()
    judged = {
        row["id"] for row in read_rows(fitted / "work") if row["split"] == "test" and row["subset"] != "(neutral)"
    }
    chosen_on = {row["id"] for row in read_rows(fitted / "work") if row["split"] == "val"}
    assert len(judged) == about["data"]["splits"]["test"]
    assert not judged & chosen_on


@pytest.mark.slow
def test_a_second_fit_of_the_same_makes_nothing_anew_and_another_is_refused(world: Path, fitted: Path) -> None:
    before = (fitted / "work" / "rows.jsonl").read_bytes(), (fitted / "steerer.safetensors").read_bytes()
    fit(FitArguments(data=str(world), out=fitted, **SMALL))
    assert ((fitted / "work" / "rows.jsonl").read_bytes(), (fitted / "steerer.safetensors").read_bytes()) == before
    with pytest.raises(ValueError, match="holds the results of another recipe"):
        fit(FitArguments(data=str(world), out=fitted, **SMALL | {"budget": 0.2}))


@pytest.mark.slow
def test_without_targets_the_effect_is_which_answer_is_preferred(world: Path, tmp_path: Path) -> None:
    card = fit(FitArguments(data=str(without_targets(world)), out=tmp_path / "steerer", **SMALL))
    assert card["objective"] == "preference"
    preferred = [one for one in card["results"] if (one["metric"], one["subset"]) == ("preference", "all")]
    assert {one["method"] for one in preferred} == {"NoSteering", "PromptSteering", "MeanSteering"}
    assert all(0 <= one["low"] <= one["value"] <= one["high"] <= 1 for one in preferred)
    assert card["chosen"]["unsteered_quality"] == pytest.approx(1)


def test_forced_likelihoods_are_those_of_one_full_pass(tiny: VLM, world: Path) -> None:
    """The prompt and the answer in one pass, without steering and cache, say the same."""
    asked_of, answers = prompts(world), ["yes", "no , the image has no"]
    (ids,) = answer_ids(tiny, asked_of, answers)
    asked = ask(tiny, asked_of, [none := NoSteering(3, 3, tiny.fingerprint)])
    (found,) = log_likelihoods(tiny, asked, [asked.run(none, 0.0)], ids)
    for prompt, own, value in zip(asked_of, ids, found.tolist(), strict=True):
        encoded = tiny.encode([prompt])
        whole = torch.cat([encoded.input_ids, own[None]], dim=1)
        inputs = encoded.model_inputs() | {"input_ids": whole, "attention_mask": torch.ones_like(whole)}
        inputs.pop("position_ids")
        inputs = {name: one for name, one in inputs.items() if one.shape[:2] != encoded.input_ids.shape or one is whole}
        inputs["attention_mask"] = torch.ones_like(whole)
        with torch.no_grad():
            logits = tiny.model(**inputs).logits[0].float().log_softmax(-1)
        expected = logits[-len(own) - 1 : -1].gather(1, own[:, None]).mean()
        assert value == pytest.approx(float(expected), abs=1e-4)


@pytest.mark.slow
def test_strength_zero_moves_no_neutral_prompt_and_more_moves_it_further(tiny: VLM, fitted: Path, world: Path) -> None:
    steerer = load_steerer(fitted)
    none, asked = NoSteering(3, 3, tiny.fingerprint), ask(tiny, prompts(world), [steerer])
    (said,) = answer_ids(tiny, prompts(world), ["yes", "no"])
    plain = asked, asked.run(none, 0.0)
    runs = [asked.run(steerer, strength) for strength in (0.0, 0.5, 2.0)]
    moved = divergences(tiny, plain, asked, runs, said).mean(dim=1).tolist()
    assert moved[0] == pytest.approx(0, abs=1e-6)
    assert moved[0] < moved[1] < moved[2]


@pytest.mark.slow
def test_asking_gives_both_replies_and_shows_them_as_they_grow(fitted: Path, world: Path, tiny: VLM) -> None:
    steered, seen = Steered.load(fitted, strength=1.0), []
    (prompt,) = prompts(world, 1)
    ((unsteered, changed),) = steered.replies([prompt], lambda *both: seen.append(both))
    assert unsteered == tiny.generate([prompt], max_new_tokens=12)[0]
    steerer = load_steerer(fitted)
    assert isinstance(steerer, MeanSteering)
    asked = ask(tiny, [prompt], [steerer])
    assert changed == asked.answered(tiny, [asked.run(steerer, 1.0)], max_new_tokens=12)[0]
    assert len(seen) > 3
    assert seen[-1] == (unsteered, changed)
    assert all(unsteered.startswith(one) and changed.startswith(other) for one, other in seen)


@pytest.mark.slow
def test_a_loaded_folder_gives_bitwise_the_same_ops(fitted: Path) -> None:
    query = Query(torch.randn(3, 96))
    first, second = (load_steerer(fitted).ops(query) for _ in range(2))
    assert all(torch.equal(one.vector, other.vector) for one, other in zip(first, second, strict=True))


@pytest.fixture
def questions(world: Path) -> Path:
    file = world.parent / "in.jsonl"
    file.write_text("".join(world.read_text().splitlines(keepends=True)[:5]) + '{"question": "no image"}\n')
    return file


@pytest.mark.slow
def test_a_file_of_questions_is_answered_once_each(fitted: Path, questions: Path, tmp_path: Path) -> None:
    """A run that was torn in the middle of a line goes on there, and what is there already is not made again."""
    steered, whole, torn = Steered.load(fitted), tmp_path / "whole.jsonl", tmp_path / "torn.jsonl"
    assert ask_file(steered, questions, whole, batch_size=2) == {"lines": 6, "new": 6, "left_out": 1}
    ask_file(steered, questions, torn, batch_size=2)
    content = torn.read_bytes()
    torn.write_bytes(content[: len(content) // 2])
    assert ask_file(steered, questions, torn, batch_size=2)["new"] > 0
    assert torn.read_bytes() == whole.read_bytes()
    assert ask_file(steered, questions, torn, batch_size=2)["new"] == 0


@pytest.mark.slow
def test_answers_of_another_run_are_not_mixed(fitted: Path, questions: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    ask_file(Steered.load(fitted), questions, out)
    with pytest.raises(ValueError, match="holds the answers of another run, with another strength"):
        ask_file(Steered.load(fitted, strength=0.25), questions, out)
    (tmp_path / "other.jsonl").write_text("a line\n")
    with pytest.raises(ValueError, match="says nothing of the run that wrote it"):
        ask_file(Steered.load(fitted), questions, tmp_path / "other.jsonl")


@pytest.mark.slow
def test_another_model_or_another_template_is_refused(fitted: Path, tmp_path: Path) -> None:
    from studies.run.checkpoint import Checkpoint

    with pytest.raises(ValueError, match="was fitted on model"):
        Steered.load(fitted, Checkpoint(model="tiny-qwen2vl"))
    steerer, about = load_steerer(fitted), read_card(fitted)["about"]
    about["model"]["preprocessing"]["chat_template"] = "another"
    steerer.save(tmp_path, about=about)
    with pytest.raises(ValueError, match="had another chat_template"):
        Steered.load(tmp_path)
    assert Steered.load(tmp_path, any_model=True).steerer.fingerprint == ""


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"method": "P2S"}, "P2S is the oracle"),
        ({"method": "NoSteering"}, "NoSteering fits nothing"),
        ({"method": "Wishing"}, "'Wishing' is no method"),
        ({"split": (60, 0, 40)}, "give three parts above 0"),
        ({"writes": (99,)}, "has no block 99"),
        ({"budget": 2.0}, "--budget is 2"),
    ],
)
def test_what_cannot_be_fitted_is_refused_before_anything_is_made(
    world: Path, tmp_path: Path, changed: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        fit(FitArguments(data=str(world), out=tmp_path / "steerer", **SMALL | changed))
    assert not (tmp_path / "steerer" / "work" / "rows.jsonl").exists()

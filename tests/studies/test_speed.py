"""The benchmark at its smallest: contestants that disagree are refused, and the page gets its table."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from studies import speed
from studies.timing import contests, models, replies, scale
from studies.timing.rounds import timed
from studies.timing.served import served
from studies.timing.tables import figure, markdown, placed

TINY = models.Size((32, 3, 2, 64), (16, 2, 2, 32), 512)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(models.SIZES, "random-tiny", TINY)


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
def test_every_contest_runs_and_its_contestants_agree() -> None:
    arguments = speed.Arguments(
        model="random-tiny",
        contests=("capture", "sweep", "generation", "methods", "hooks", "training"),
        layers=2,
        questions=3,
        settings=3,
        batches=(1, 3),
        rounds=1,
        train_pairs=160,
        train_width=128,
        epochs=2,
        dictionary_iterations=1,
        threads=1,
    )
    result = speed.measure(arguments)
    assert [record["what"] for record in result["times"] if record["who"].startswith(("published", "unsteered"))]
    assert len({record["what"] for record in result["times"]}) == 13
    equal = {record["what"]: record["equal"] for record in result["times"]}
    assert equal["3 settings x 8 tokens"] == "6 of 6 replies equal to the last token"
    assert equal["64 tokens, steered by L2S"] == "3 of 3 replies equal to the last token"
    assert equal["32 tokens, 3 prompts at once, steered by L2S"] == "9 of 9 replies equal to the last token"
    assert "replies equal to the last token" in equal["32 tokens, edited"]
    assert equal["32 tokens, by method"] == "12 of 12 replies equal to the last token at strength 0"
    text = markdown(result)
    assert re.search(r"in multiples of an unsteered one: .*\bADHH \d", text)
    assert "The first token comes" in text
    assert all(record["who"] in text for record in result["times"])
    assert figure(result).axes


@pytest.mark.usefixtures("tiny")
def test_half_precision_runs_with_shared_weights() -> None:
    """The analogue of the large model on a GPU: bfloat16, three module trees, one set of weights."""
    on = models.contestants("random-tiny", dtype=torch.bfloat16)
    weights = [next(model.parameters()).data_ptr() for model in (on.vlm.model, on.plain, on.traced)]
    assert len(set(weights)) == 1
    items = models.pairs(2)
    contest = replies.generation_contest(on, [items[0].prompt], contests.l2s(on, items), 3)
    assert len(timed(contest, 1)) == 5


@pytest.mark.usefixtures("tiny")
def test_disagreeing_contestants_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    on = models.contestants("random-tiny")
    right = contests.published.capture
    monkeypatch.setattr(
        contests.published,
        "capture",
        lambda *args: {layer: tuple(2 * part for part in parts) for layer, parts in right(*args).items()},
    )
    with pytest.raises(RuntimeError, match="nothing was timed"):
        contests.capture_contest(on, models.pairs(2), [1])


@pytest.mark.slow
def test_the_formula_does_not_ask_for_the_number_of_pairs(monkeypatch: pytest.MonkeyPatch, tiny: None) -> None:
    vlm = models.contestants("random-tiny").vlm
    once, twice = (scale.capture_bytes(vlm, batch, 580, 8, 3) for batch in (1, 2))
    assert twice == 2 * once
    small = scale.training("random-tiny", 64)
    assert small["peak"] < 3 * small["formula"] + 30e6


@pytest.mark.usefixtures("tiny")
def test_an_engine_that_does_not_start_is_said() -> None:
    on, items = models.contestants("random-tiny"), models.pairs(1)
    with (
        pytest.raises(RuntimeError, match="vLLM ended with status 1"),
        served(Path(shutil.which("false") or ""), on, [items[0].prompt], contests.l2s(on, items)),
    ):
        pass


def test_wrong_batches_and_engines_are_refused() -> None:
    with pytest.raises(ValueError, match="--batches are"):
        speed.speed(speed.Arguments(batches=(0,)))
    with pytest.raises(ValueError, match="There is no nowhere"):
        speed.speed(speed.Arguments(vllm=Path("nowhere")))


def test_a_section_replaces_the_one_before() -> None:
    page = "before\n<!-- measured: a-cpu -->\nold\n<!-- end: a-cpu -->\nafter"
    assert placed(page, "a-cpu", "new") == "before\n<!-- measured: a-cpu -->\nnew\n<!-- end: a-cpu -->\nafter"
    with pytest.raises(ValueError, match="no place"):
        placed(page, "b-cuda", "new")


def test_the_pages_have_a_place_for_each_run() -> None:
    embedded = [f"{name}-cpu{threads}" for name in models.EMBEDDED for threads in ("", "-2-threads")]
    for file, names in (("performance", ["random-40m-cpu", "random-7b-cuda"]), ("performance-embedded", embedded)):
        page = (Path(__file__).parents[2] / f"docs/{file}.md").read_text()
        for name in names:
            assert placed(page, name, json.dumps(name)) != page

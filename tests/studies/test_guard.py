"""The guard: both of its forms, and that its number is its own first logits'."""

from pathlib import Path
from typing import Any

import pytest
import torch

from studies.judges import Exchange, LlamaGuard, Verdicts
from tests.studies.guards import save_guard


@pytest.fixture(scope="module")
def guard_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_guard(tmp_path_factory.mktemp("guard"))


def test_the_published_form_shows_four_examples_and_begins_twice(guard_folder: Path) -> None:
    guard = LlamaGuard(str(guard_folder))
    turns = guard.messages(Exchange("a", "what?", "the reply"))
    assert [turn["role"] for turn in turns] == ["user", "assistant"] * 4 + ["user"]
    assert [turn["content"] for turn in turns[1::2]] == ["unsafe", "safe", "safe", "safe"]
    assert turns[0]["content"].startswith("You are provided with an answer.")
    assert turns[-1]["content"] == "the reply"
    _, tokenizer = guard._load()
    ids = tokenizer(guard.rendered(tokenizer, turns))["input_ids"]
    assert tokenizer.decode(ids).count("<s>") == 2
    assert guard.rendered(tokenizer, turns).endswith("\n\n")


def test_the_documented_form_judges_the_reply_as_the_assistants(guard_folder: Path) -> None:
    guard = LlamaGuard(str(guard_folder), form="documented")
    assert guard.messages(Exchange("a", "what", "reply fine")) == [
        {"role": "user", "content": "what"},
        {"role": "assistant", "content": "reply fine"},
    ]


@pytest.mark.parametrize("form", ["published", "documented"])
def test_the_guards_number_is_its_own_softmax_one_by_one(form: Any, guard_folder: Path, tmp_path: Path) -> None:
    guard = LlamaGuard(str(guard_folder), form=form, batch_size=3)
    exchanges = [Exchange(str(n), "what", "fine " * n + "reply") for n in range(5)]
    verdicts = Verdicts(tmp_path / "v.jsonl")
    values = guard.judge(exchanges, verdicts).values
    model, tokenizer = guard._load()
    for exchange, value in zip(exchanges, values, strict=True):
        text = guard.rendered(tokenizer, guard.messages(exchange))
        ids = tokenizer(text, return_tensors="pt", add_special_tokens=form == "published")
        with torch.no_grad():
            expected = model(**ids).logits[0, -1].softmax(-1)[tokenizer.convert_tokens_to_ids("unsafe")]
        assert value == pytest.approx(float(expected), rel=1e-4)
    offline = LlamaGuard(str(guard_folder), form=form)
    assert offline.judge(exchanges, Verdicts(tmp_path / "v.jsonl")).values == values
    assert not offline._loaded  # every verdict was there, so no model is needed

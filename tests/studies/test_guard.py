"""The guard: both of its forms, and that its number is its own first logits'."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from studies.judges import Exchange, LlamaGuard, Verdicts, load_examples
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


def test_examples_come_from_a_file_too(guard_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "examples.json"
    file.write_text('\ufeff[["a list of steps", "unsafe"], ["a warning", "safe"]]', encoding="utf-8")
    guard = LlamaGuard(str(guard_folder), examples=load_examples(file))
    contents = [turn["content"] for turn in guard.messages(Exchange("a", "what", "reply"))]
    assert contents[1:] == ["unsafe", "a warning", "safe", "reply"]
    assert contents[0].endswith("\n\na list of steps")
    for content in ("{", "[]", '{"a": "safe"}', '[["a"]]', '[["a", "perhaps"]]', '["ab"]'):
        file.write_text(content)
        with pytest.raises(ValueError, match=r"examples\.json"):
            load_examples(file)
    with pytest.raises(ValueError, match="no examples"):
        LlamaGuard(str(guard_folder), examples=())


def test_other_weights_of_the_same_size_are_another_version(guard_folder: Path, tmp_path: Path) -> None:
    tuned = Path(shutil.copytree(guard_folder, tmp_path / guard_folder.name))
    assert LlamaGuard(str(tuned)).version == LlamaGuard(str(guard_folder)).version
    weights = tuned / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8] + bytes(8))
    assert LlamaGuard(str(tuned)).version != LlamaGuard(str(guard_folder)).version
    assert LlamaGuard("meta-llama/Llama-Guard-3-8B", revision="v1").version == "published v1"


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

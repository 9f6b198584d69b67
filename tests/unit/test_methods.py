"""Contrasts and steerers: what they say when something is missing, and what they keep on disk."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from interv import VLM, Prompt
from methods import (
    P2S,
    ContrastBank,
    ContrastPair,
    Contrasts,
    MeanSteering,
    MeanSteeringBA,
    NormRnd,
    PromptSteering,
    Query,
    load_steerer,
    steer,
)
from methods import capture_contrasts as capture
from tests.property.cases import Ask
from tests.property.reference import bitwise
from tests.property.test_law_12_steerers import contrasts, query
from tests.tiny_models import build


def pair(number: int, image: object = None, agnostic: bool = False) -> ContrastPair:
    ask = Ask(f"question {number}", seed=number).prompt()
    if image is not None:
        ask = replace(ask, image=image)
    other = (replace(ask, question="?", answer="yes"), replace(ask, question="?", answer="no")) if agnostic else None
    return ContrastPair(
        ask, replace(ask, answer="yes"), replace(ask, answer="no"), "ab"[number % 2], str(number), other
    )


def test_a_bank_comes_back_from_disk(vlm: VLM, tmp_path: Path) -> None:
    bank = capture(vlm, [pair(0, agnostic=True), pair(1, agnostic=True)], progress=False)
    bank.save(tmp_path)
    again = ContrastBank.load(tmp_path)
    for name in ("context", "positive", "negative", "agnostic"):
        bitwise(getattr(again, name), getattr(bank, name))
    for name in ("behavior", "id", "layers", "fingerprint", "skipped"):
        assert getattr(again, name) == getattr(bank, name)
    assert len(again) == 2


def test_a_bank_without_agnostic_pairs_comes_back_without(vlm: VLM, tmp_path: Path) -> None:
    capture(vlm, [pair(0)], progress=False).save(tmp_path)
    assert ContrastBank.load(tmp_path).agnostic is None


def test_contrasts_come_back_from_disk(tmp_path: Path) -> None:
    train = contrasts().silenced(["a"])
    train.save(tmp_path)
    again = Contrasts.load(tmp_path)
    for name in ("context", "positive", "negative", "agnostic", "scale"):
        bitwise(getattr(again, name), getattr(train, name))
    for name in ("behavior", "id", "reads", "writes", "fingerprint"):
        assert getattr(again, name) == getattr(train, name)
    with pytest.raises(ValueError, match="holds no ContrastBank"):
        ContrastBank.load(tmp_path)


def test_two_layers_of_a_bank_are_contrasts(vlm: VLM) -> None:
    bank = capture(vlm, [pair(0), pair(1)], progress=False)
    train = bank.at(reads=2, writes=0)
    bitwise(train.context, bank.context[:, 2])
    bitwise(train.vectors, bank.positive[:, 0] - bank.negative[:, 0])
    assert (train.reads, train.writes, train.fingerprint) == (2, 0, vlm.fingerprint)
    assert (train.behavior, train.id) == (("a", "b"), ("0", "1"))


def test_a_layer_that_was_not_captured_is_refused(vlm: VLM) -> None:
    bank = capture(vlm, [pair(0)], layers=[0, 2], progress=False)
    assert bank.layers == (0, 2)
    with pytest.raises(ValueError, match=r"Layer 1 was not captured; there are 0, 2"):
        bank.at(reads=1, writes=0)


def test_pairs_with_unreadable_images_are_skipped_by_id(vlm: VLM, tmp_path: Path) -> None:
    bank = capture(vlm, [pair(0), pair(1, tmp_path / "gone.png"), pair(2)], progress=False)
    assert bank.id == ("0", "2")
    assert [id_ for id_, _ in bank.skipped] == ["1"]
    assert "gone.png" in bank.skipped[0][1]


def test_nothing_usable_is_refused(vlm: VLM, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"None of the 1 contrast pairs.*gone\.png"):
        capture(vlm, [pair(0, tmp_path / "gone.png")], progress=False)


def test_agnostic_pairs_for_some_are_refused(vlm: VLM) -> None:
    with pytest.raises(ValueError, match="all or to none"):
        capture(vlm, [pair(0, agnostic=True), pair(1)], progress=False)


@pytest.mark.parametrize("change", [{"question": "other"}, {}, None], ids=["other", "copy", "same"])
def test_no_answer_to_average_over_is_refused(vlm: VLM, change: dict | None) -> None:
    ask = Ask().prompt()
    positive = ask if change is None else replace(ask, **change)
    with pytest.raises(ValueError, match="no forced answer to average over"):
        capture(vlm, [ContrastPair(ask, positive, replace(ask, answer="no"))], pool="mean", progress=False)


@pytest.mark.parametrize("layers", [[], [3], [-1, 0]])
@pytest.mark.parametrize("folder", [None, "out"])
def test_layers_are_checked_at_the_door(tmp_path: Path, layers: list[int], folder: str | None) -> None:
    out = folder and tmp_path / folder
    with pytest.raises(ValueError, match=r"give decoder blocks of the model, 0 to 2, or None"):
        capture(build("random-llava"), [pair(0)], layers=layers, progress=False, out=out)
    assert not any(tmp_path.iterdir())


def test_a_layer_that_is_named_twice_is_kept_once() -> None:
    vlm = build("random-llava")
    bank, plain = (capture(vlm, [pair(0)], layers=layers, progress=False) for layers in ([2, 2, 0], [2, 0]))
    assert bank.layers == (2, 0)
    bitwise(bank.at(0, 2).vectors, plain.at(0, 2).vectors)


def test_batches_and_pairs_are_checked_at_the_door() -> None:
    with pytest.raises(ValueError, match="batch_size is 0; it must be at least 1"):
        capture(build("random-llava"), [pair(0)], batch_size=0, progress=False)
    with pytest.raises(ValueError, match="There are no contrast pairs"):
        capture(build("random-llava"), [], progress=False)


def test_rows_of_contrasts_keep_their_order() -> None:
    train = contrasts().rows([3, 1])
    bitwise(train.context, contrasts().context[[3, 1]])
    bitwise(train.vectors, contrasts().vectors[[3, 1]])
    assert train.id == ("3", "1")


def test_agnostic_steering_needs_agnostic_pairs() -> None:
    with pytest.raises(ValueError, match=r"ContrastPair\(agnostic="):
        MeanSteeringBA.fit(replace(contrasts(), agnostic=None))


@pytest.mark.parametrize(
    "steerer", [P2S.fit(contrasts()), NormRnd.fit(contrasts(), per_input=True)], ids=["P2S", "NormRnd"]
)
def test_an_oracle_needs_vectors(steerer) -> None:
    with pytest.raises(ValueError, match=r"Query\.vectors"):
        steerer.ops(Query(query().context))


def test_a_random_direction_may_have_each_inputs_own_norm() -> None:
    vector = NormRnd.fit(contrasts(), per_input=True).ops(query())[0].vector
    torch.testing.assert_close(vector.norm(dim=1), query().vectors.norm(dim=1))


def test_only_the_prompt_baseline_rewrites() -> None:
    prompt = Prompt(None, "What?")
    assert MeanSteering.fit(contrasts()).rewrite(prompt) == prompt
    assert PromptSteering.fit(contrasts(), suffix="Look.").rewrite(prompt).question == "What? Look."


def test_a_folder_without_a_steerer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no steerer\.json"):
        load_steerer(tmp_path)


def test_an_unknown_method_is_told_what_exists(tmp_path: Path) -> None:
    MeanSteering.fit(contrasts()).save(tmp_path)
    card = json.loads((tmp_path / "steerer.json").read_text())
    (tmp_path / "steerer.json").write_text(json.dumps(card | {"method": "Wishing"}))
    with pytest.raises(ValueError, match=r"'Wishing'; the methods are NoSteering, PromptSteering.*others="):
        load_steerer(tmp_path)


def test_a_method_fitted_on_another_model_is_refused(vlm: VLM) -> None:
    bank = capture(vlm, [pair(0), pair(1)], progress=False)
    steerer = MeanSteering.fit(replace(bank.at(0, 0), fingerprint="f" * 16))
    with pytest.raises(ValueError, match="captured from model ffffffffffffffff"):
        steer(vlm, [Ask().prompt()], steerer)

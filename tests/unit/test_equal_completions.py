"""Completions of a pair that are equal run once, whether or not they are the same object."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from interv import VLM
from interv.running.runner import Runner
from methods import capture_contrasts
from studies.recipes import RECIPES
from studies.tasks import TASKS


def test_an_agnostic_pair_of_the_same_words_is_not_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    vlm = VLM.load("tiny-llava")
    pairs = TASKS["shapes_pope"]().pairs("train")[:4]
    whole = capture_contrasts(vlm, pairs, pool="mean", layers=[3], progress=False)
    rows = []
    extend = VLM.extend

    def counted(self: VLM, prefill: Any, behind: Any, *args: Any) -> Any:
        rows.append(len(behind))
        return extend(self, prefill, behind, *args)

    monkeypatch.setattr(VLM, "extend", counted)
    adapted = [RECIPES["embedded_pope"].adapted(pair) for pair in pairs]
    assert all(pair.agnostic[0] is not pair.positive for pair in adapted)
    bank = capture_contrasts(vlm, adapted, pool="mean", layers=[3], progress=False)
    assert sum(rows) == 3 * len(pairs)
    assert bank.agnostic is not None
    assert whole.agnostic is not None
    assert torch.equal(bank.agnostic, whole.agnostic)
    for right, pair in enumerate(adapted):
        sign = 1 if pair.behavior == "no" else -1
        own = sign * (bank.positive[right] - bank.negative[right])
        assert torch.equal(own, bank.agnostic[right])


def test_other_words_are_run(monkeypatch: pytest.MonkeyPatch) -> None:
    vlm = VLM.load("tiny-llava")
    pair = TASKS["shapes_pope"]().pairs("train")[0]
    other = replace(pair, agnostic=(replace(pair.positive, answer="yes ."), replace(pair.negative, answer="no .")))
    bank = capture_contrasts(vlm, [other], pool="mean", layers=[3], progress=False)
    assert bank.agnostic is not None
    assert not torch.allclose(bank.agnostic, bank.positive - bank.negative)


def test_each_image_runs_once_also_where_the_model_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it says behind either completion follows the prefix that they share."""
    vlm, images = VLM.load("tiny-llava"), []
    pairs = [replace(pair, agnostic=None) for pair in TASKS["shapes_pope"]().pairs("val")[:4]]
    forward = Runner.forward

    def counted(self: Runner, plan: Any, step: Any, inputs: dict[str, Any], *args: Any, **how: Any) -> Any:
        images.append(len(inputs.get("pixel_values", ())))
        return forward(self, plan, step, inputs, *args, **how)

    monkeypatch.setattr(Runner, "forward", counted)
    capture_contrasts(vlm, pairs, pool="mean_generated", layers=[3], generated_tokens=3, progress=False)
    assert sum(images) == len(pairs)

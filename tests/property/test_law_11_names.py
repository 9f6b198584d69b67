"""Laws 6 and 11 for TransformerLens' two ways of looking: all activations by name, and functions at names."""

from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from torch import Tensor

from interv import VLM, Add, Scale, Site
from tests.property.cases import Ask, Case, cases
from tests.property.places import HEAD_PLACES, PLACES
from tests.property.reference import bitwise, close, full_pass, hooked

NAMED = tuple(name for name in PLACES if name.startswith("hook_")) + HEAD_PLACES


def check_cache_equals_plain_hooks(vlm: VLM, case: Case) -> None:
    """Every row against its own prompt alone, behind ops in the first block; zeros to its left; heads apart."""
    case = replace(case, pushes=tuple(replace(push, layer=0) for push in case.pushes))
    places = [PLACES[name](vlm, vlm.n_layers - 1) for name in NAMED]
    logits, cache = vlm.run_with_cache(case.prompts(), [place.site for place in places], case.ops(vlm))
    for row in range(len(case.asks)):
        seen: dict[Site, list[Tensor]] = {place.site: [] for place in places}
        with ExitStack() as hooks:
            for place in places:
                keep = partial(lambda kept, hidden: kept.append(hidden.clone()), seen[place.site])
                hooks.enter_context(hooked(vlm, place.path, place.side, keep))
            alone = full_pass(vlm, case, row).logits[0]
        for place in places:
            value, expected = cache[place.site][row], place.take(seen[place.site][0][0])
            close(value.flatten(1)[-len(expected) :], expected)
            assert not value[: -len(expected)].any()
            assert cache.mask[row].sum() == len(expected)
        close(logits[row, -len(alone) :], alone)
    heads = vlm.model.config.get_text_config().num_key_value_heads
    keys = cache[Site(-1, "hook_k")]
    assert keys.shape[:3] == (len(case.asks), logits.shape[1], heads)
    bitwise(keys, cache["k", vlm.n_layers - 1])


def check_functions_at_names_are_ops(vlm: VLM, case: Case) -> None:
    """A changed tensor, and one that is changed in place."""
    ones, prompts = torch.ones(vlm.d_model), case.prompts()
    told: list[Any] = []

    def add(value: Tensor, hook: Any) -> Tensor:
        told.append((hook.name, hook.layer(), value.shape))
        return value + 1.0

    def silence(value: Tensor, hook: Any) -> None:
        value[:, :, 1] = 0.0

    size = vlm.encode(prompts).input_ids.shape
    for pair, op in (
        (("blocks.-1.hook_resid_pre", add), Add(Site(-1, "hook_resid_pre"), ones, "all")),
        (("blocks.0.attn.v.hook_out", silence), Scale(Site(0, "hook_v", head=1), 0.0, "all")),
        ((lambda name: name == "blocks.1.attn.hook_z", silence), Scale(Site(1, "hook_z", head=1), 0.0, "all")),
    ):
        wanted, _ = vlm.run_with_cache(prompts, ["hook_embed"], [op])
        bitwise(vlm.run_with_hooks(prompts, [pair]), wanted)
    last = vlm.n_layers - 1
    assert told == [(f"blocks.{last}.hook_resid_pre", last, (*size, vlm.d_model))]


@given(case=cases(rows=(2, 3), scopes=("all", "prompt"), ops=(0, 1)))
def test_cache_equals_plain_hooks(vlm: VLM, case: Case) -> None:
    check_cache_equals_plain_hooks(vlm, case)


def test_functions_at_names_are_ops(vlm: VLM) -> None:
    check_functions_at_names_are_ops(vlm, Case((Ask("what?"), Ask("and this one?", (), 1))))


def test_what_is_asked_for_is_what_comes(vlm: VLM) -> None:
    prompts = [Ask("text", ()).prompt()]
    _, cache = vlm.run_with_cache(prompts, lambda name: "hook_resid" in name)
    assert len(cache) == 3 * vlm.n_layers  # no image, so nothing of the tower
    assert not any(name.endswith("hook_result") for name in vlm.run_with_cache(prompts, lambda name: True)[1])
    _, cache = vlm.run_with_cache(prompts, ["blocks.-1.hook_result"])
    assert list(cache) == [f"blocks.{vlm.n_layers - 1}.attn.hook_result"]
    with pytest.raises(KeyError, match="was not read"):
        cache["blocks.0.hook_z"]
    with pytest.raises(ValueError, match="No place has a name"):
        vlm.run_with_cache(prompts, lambda name: False)
    with pytest.raises(ValueError, match="is no hook"):
        vlm.run_with_hooks(prompts, [(lambda name: False, lambda value, hook: value)])
    with pytest.raises(RuntimeError, match="touched no token"):
        vlm.run_with_cache(prompts, ["vision_encoder.blocks.0.hook_resid_post"])

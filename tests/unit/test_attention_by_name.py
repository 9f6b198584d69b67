"""Scores and weights by TransformerLens' names and in its shapes, and functions of one's own there."""

from typing import Any

import pytest
import torch
from torch import Tensor

from interv import Apply, Drop, Site
from tests.property.attention_cases import Scene
from tests.property.attention_reference import attention
from tests.property.reference import bitwise, close
from tests.tiny_models import RANDOM, build

ON_RANDOM = pytest.mark.parametrize("name", RANDOM)
PROMPTS = Scene().prompts()


@ON_RANDOM
def test_a_cache_has_heads_before_queries(name: str) -> None:
    vlm = build(name)
    inputs = vlm.encode(PROMPTS).model_inputs()
    with attention(vlm, "eager"), torch.no_grad():
        eager = vlm.model(**inputs, output_attentions=True).attentions[1]
    logits, cache = vlm.run_with_cache(PROMPTS, ["blocks.1.hook_pattern", "blocks.1.attn.hook_rot_k"])
    real = inputs["attention_mask"].bool()[:, None, :, None]
    close(torch.where(real, cache["pattern", 1, "attn"], 0.0), torch.where(real, eager, 0.0), 1e-6)
    text = vlm.model.config.get_text_config()
    assert cache["blocks.1.attn.hook_rot_k"].shape == (2, real.shape[2], text.num_key_value_heads, 8)
    assert logits.shape[:2] == real.squeeze(1).shape[:2]


@ON_RANDOM
def test_hook_functions_and_ops_do_the_same(name: str) -> None:
    """A head knocked out by a function at the weights, by `Apply` and by `Drop`."""
    vlm, head = build(name), 2

    def knocked_out(pattern: Tensor, hook: Any) -> Tensor:
        assert pattern.shape[1:2] == (4,)
        assert pattern.shape[2] == pattern.shape[3]
        pattern[:, head] = 0.0
        return pattern

    logits = vlm.run_with_hooks(PROMPTS, [("blocks.1.attn.hook_pattern", knocked_out)])
    dropped, _ = vlm.run_with_cache(
        PROMPTS, ["blocks.0.hook_out"], [Drop("blocks.1.hook_pattern", "all", [head], scope="all")]
    )
    mask = vlm.encode(PROMPTS).attention_mask.bool()
    bitwise(logits[mask], dropped[mask])
    applied, _ = vlm.run_with_cache(
        PROMPTS, ["blocks.0.hook_out"], [Apply(Site(1, "hook_pattern", head=head), lambda h, here: h * 0, "all")]
    )
    bitwise(applied[mask], dropped[mask])


@ON_RANDOM
def test_a_function_of_scores_is_given_them_before_the_mask(name: str) -> None:
    vlm, shapes = build(name), []

    def look(scores: Tensor, here: Any) -> Tensor:
        shapes.append(tuple(scores.shape))
        assert torch.isfinite(scores).all()
        return scores + 1  # the same for all columns, which no softmax sees

    plain = vlm.logits(PROMPTS)
    close(vlm.logits(PROMPTS, [Apply("blocks.1.hook_attn_scores", look)]), plain)
    assert shapes == [(1, 4, vlm.encode(PROMPTS).input_ids.shape[1])] * 2


@ON_RANDOM
def test_a_function_that_changes_nothing_leaves_the_bits(name: str) -> None:
    vlm = build(name)
    same = [Apply(f"blocks.1.{hook}", lambda values, here: values) for hook in ("hook_attn_scores", "hook_pattern")]
    bitwise(vlm.logits(PROMPTS, same), vlm.logits(PROMPTS))

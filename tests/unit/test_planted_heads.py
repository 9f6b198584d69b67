"""AD-HH's heads: what is left of one whose text is dropped, and that attribution finds the one that says a mistake."""

from dataclasses import replace

import pytest
import torch

from interv import VLM, Site
from methods import ADHH, Said, ask, attribute_heads
from methods.attribution import removals
from tests.baselines import pairs, sixteen
from tests.property.reference import bitwise, close
from tests.tiny_models import HEADS, RANDOM, build

LAYER, HEAD = 1, 2


@pytest.fixture(params=RANDOM)
def small(request: pytest.FixtureRequest) -> VLM:
    return build(request.param)


def check_a_planted_head_is_the_first(vlm: VLM) -> None:
    """It copies a token into the answer, behind the first of two prompts alone; turned round, it is the last."""
    asked = [pair.prompt for pair in pairs()[1:3]]
    block = vlm.model.model.language_model.layers[LAYER]
    site, projection = Site(LAYER, "hook_z", head=HEAD), block.self_attn.o_proj
    first, second = vlm.capture(asked, [site])[site]
    own = first - second * (first @ second) / (second @ second)
    copied = vlm.model.lm_head.weight.detach()[(token := 40)]
    width, kept = len(first), projection.weight.detach().clone()
    try:
        columns = projection.weight.data[:, HEAD * width : (HEAD + 1) * width]
        columns.copy_(100 * torch.outer(copied / copied.norm(), own / (own @ first)))
        prefill = vlm.prefill(asked[:1])
        assert int(vlm.logits(prefill).argmax()) == token
        assert int(vlm.logits(prefill, removals([(LAYER, HEAD)])).argmax()) != token
        found = attribute_heads(vlm, [Said(prompt, wrong) for prompt, wrong in zip(asked, (True, False), strict=True)])
    finally:
        projection.weight.data.copy_(kept)
    assert found.top(0.01) == [(LAYER, HEAD)]
    turned = replace(found, wrong=~found.wrong)
    assert turned.top(1.0)[-1] == (LAYER, HEAD)


def test_a_planted_head_is_the_first(small: VLM) -> None:
    check_a_planted_head_is_the_first(small)


def test_a_heads_output_is_what_its_kept_columns_say(small: VLM) -> None:
    """With a threshold that always acts: the sum of weight times value over them. Other heads keep their bits."""
    prompt = sixteen("ADHH")[0]
    heads, site = ((LAYER, 1), (LAYER, 2)), Site(LAYER, "hook_z")
    steerer = ADHH(LAYER, LAYER, small.fingerprint, heads, threshold=1e-9)
    ops = ask(small, [prompt], [steerer]).run(steerer, 1.0).ops
    plain, own = (small.capture([prompt], [site], ops=more)[site].view(HEADS, -1) for more in ((), ops))
    _, cache = small.run_with_cache([prompt], ["blocks.1.attn.hook_pattern", "blocks.1.attn.hook_v"])
    weights, values = (cache[f"blocks.1.attn.hook_{name}"][0] for name in ("pattern", "v"))
    image = small.encode([prompt]).image_mask[0]
    kept = torch.arange(len(image)) <= int(image.nonzero().max())
    groups = HEADS // values.shape[1]
    for head in range(HEADS):
        if (LAYER, head) in heads:
            close(own[head], weights[head, -1, kept] @ values[kept, head // groups])
            assert not torch.allclose(own[head], plain[head], atol=1e-3)
        else:
            bitwise(own[head], plain[head])


def test_no_place_is_no_mistake_either(small: VLM) -> None:
    with pytest.raises(ValueError, match="Of 0 places 0 are mistakes"):
        attribute_heads(small, [])

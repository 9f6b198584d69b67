"""Law 13, reading: what is captured inside attention is what eager attention computes, and reading changes nothing."""

import pytest
import torch

from interv import VLM, Capture, Site
from tests.property import places
from tests.property.attention_cases import Scene
from tests.property.attention_reference import attention
from tests.property.cases import Ask
from tests.property.reference import bitwise, close
from tests.tiny_models import RANDOM, build

HALF = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
ON_RANDOM = pytest.mark.parametrize("name", RANDOM)


def check_capture_equals_eager(vlm: VLM, asks: tuple[Ask, ...], tolerance: float = 1e-6) -> None:
    """Of every block, head and token; scores are what the weights are made of, rotated queries and keys the scores."""
    prompts = [ask.prompt() for ask in asks]
    inputs = vlm.encode(prompts).model_inputs()
    with attention(vlm, "eager"), torch.no_grad():
        eager = vlm.model(**inputs, output_attentions=True).attentions
    hooks = ("hook_pattern", "hook_attn_scores", "hook_rot_q", "hook_rot_k")
    sites = {hook: [Site(layer, hook) for layer in range(vlm.n_layers)] for hook in hooks}
    read = vlm.capture(prompts, [site for group in sites.values() for site in group], "prompt")
    text = vlm.model.config.get_text_config()
    heads, keys = text.num_attention_heads, text.num_key_value_heads
    for layer in range(vlm.n_layers):
        weights, scores, q, k = (read[sites[hook][layer]] for hook in hooks)
        scaling = vlm.model.get_submodule(f"{places.BLOCKS}.{layer}.self_attn").scaling
        for row, mask in enumerate(inputs["attention_mask"].bool()):
            close(weights[row], eager[layer][row][:, mask].transpose(0, 1), tolerance)
            close(torch.softmax(scores[row].float(), -1).to(weights[row]), weights[row], tolerance)
            query, key = q[row].unflatten(-1, (heads, -1)), k[row].unflatten(-1, (keys, -1))
            product = torch.einsum("qhd,khd->qhk", query, key.repeat_interleave(heads // keys, dim=1)) * scaling
            own = scores[row][..., mask]
            close(torch.where(own > -torch.inf, product, own).exp(), own.exp(), 100 * tolerance)
            assert (own > -torch.inf).sum((0, 2))[0] >= mask.sum() * (mask.sum() + 1) // 2


def check_first_block_has_eagers_bits(vlm: VLM) -> None:
    """Nothing runs below it that would round otherwise."""
    inputs = vlm.encode(Scene().prompts()).model_inputs()
    with attention(vlm, "eager"), torch.no_grad():
        eager = vlm.model(**inputs, output_attentions=True).attentions[0]
    read = vlm.capture(Scene().prompts(), [Site(0, "hook_pattern")], "prompt")[Site(0, "hook_pattern")]
    for row, mask in enumerate(inputs["attention_mask"].bool()):
        bitwise(read[row], eager[row][:, mask].transpose(0, 1))


def check_one_head_is_that_head(vlm: VLM) -> None:
    prompts = Scene().prompts()
    for hook, heads in (("hook_pattern", 4), ("hook_attn_scores", 4), ("hook_rot_q", 4), ("hook_rot_k", 2)):
        whole = vlm.capture(prompts, [Site(1, hook)])[Site(1, hook)]
        by_head = whole if whole.ndim == 3 else whole.unflatten(-1, (heads, -1))
        for head in range(heads):
            bitwise(vlm.capture(prompts, [Site(1, hook, head=head)])[Site(1, hook, head=head)], by_head[:, head])


def check_reading_changes_nothing(vlm: VLM, scene: Scene) -> None:
    """The function alone, without an edit, gives the bits of the base: sdpa's or eager's."""
    for base in ("sdpa", "eager"):
        with attention(vlm, base):
            plain = scene.answer(vlm, [])
            captures = [Capture(Site(layer, "hook_pattern"), "all") for layer in range(vlm.n_layers)]
            read = scene.answer(vlm, [*captures, Capture(Site(0, "hook_rot_k"), "response")])
            bitwise(read.logits, plain.logits)


def check_captured_while_generating(vlm: VLM, scene: Scene) -> None:
    """What a reply's tokens attended to is what a pass over prompt and reply shows, also where they were edited."""
    read = Capture(Site(1, "hook_pattern"), "response")
    replies = scene.answer(vlm, [*scene.ops(vlm), read])
    for row, own in enumerate(replies.captured[read]):
        assert own.shape[0] == len(replies.token_ids[row]) == scene.tokens
        assert own.shape[2] == vlm.encode(scene.prompts()).input_ids.shape[1] + scene.tokens - 1
        later = torch.ones(scene.tokens, own.shape[2], dtype=torch.bool).triu(own.shape[2] - scene.tokens + 1)
        assert float(own.transpose(0, 1)[:, later].abs().sum()) == 0


def test_capture_equals_eager(vlm: VLM) -> None:
    # Eight blocks over one another differ by more between sdpa and eager than the weights themselves do.
    tolerance = 1e-6 if vlm.n_layers == 3 else 1e-5
    check_capture_equals_eager(vlm, (*Scene().asks, Ask("and this is text?", (), 2)), tolerance)


@ON_RANDOM
@HALF
def test_first_block_has_eagers_bits(name: str, dtype: torch.dtype) -> None:
    check_first_block_has_eagers_bits(build(name, dtype))


@ON_RANDOM
def test_one_head_is_that_head(name: str) -> None:
    check_one_head_is_that_head(build(name))


@ON_RANDOM
@HALF
def test_reading_changes_nothing(name: str, dtype: torch.dtype) -> None:
    check_reading_changes_nothing(build(name, dtype), Scene())


@ON_RANDOM
def test_captured_while_generating(name: str) -> None:
    check_captured_while_generating(build(name), Scene())

"""Law 13: inside attention an edit changes what it says of the queries, heads and columns that it names, nothing else.

What is captured there is what eager attention computes.
"""

from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from interv import VLM
from tests.property import places
from tests.property.attention_cases import RESPONSE, Pull, Scene, scenes
from tests.property.attention_reference import attention, pass_by_hand, reply_by_hand
from tests.property.cases import Case
from tests.property.reference import bitwise, close, from_scratch, hooked, own_inputs, same_reply
from tests.tiny_models import RANDOM, build

HALF = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
FEW = settings(max_examples=settings().max_examples // 2)  # of the slower ones
ON_ANY = Scene(
    pulls=(
        Pull("boost", "image", 0, None, "response", 1.0, True),
        Pull("gate", "after_image", 1, (0, 3), "response", 1.0, threshold=0.2),
        Pull("share", "before_image", 2, (1,), "generated", rowwise=True),
    )
)
ON_RANDOM = pytest.mark.parametrize("name", RANDOM)


def check_edits_equal_a_pass_by_hand(vlm: VLM, scene: Scene) -> None:
    """With one prefill and a cache, against one full pass a token."""
    replies = scene.answer(vlm)
    for row in range(len(scene.asks)):
        same_reply(replies.token_ids[row], replies.logits[row], *reply_by_hand(vlm, scene, row))


def check_padding_on_the_right_equals_a_pass_by_hand(vlm: VLM, scene: Scene) -> None:
    inputs = own_inputs(vlm, scene.asks, "right")
    with vlm.installed(scene.ops(vlm)), torch.no_grad():
        logits = vlm.model(**inputs).logits
    for row, mask in enumerate(inputs["attention_mask"].bool()):
        close(logits[row][mask], pass_by_hand(vlm, scene, row))


def check_cache_on_equals_off(vlm: VLM, scene: Scene) -> None:
    with vlm.installed(scene.ops(vlm)):
        tokens, logits = from_scratch(vlm, _as_case(scene), use_cache=True)
    with vlm.installed(scene.ops(vlm)):
        other, expected = from_scratch(vlm, _as_case(scene), use_cache=False)
    for row in range(len(scene.asks)):
        same_reply(tokens[row], logits[row], other[row], expected[row])


def check_row_equals_prompt_alone(vlm: VLM, scene: Scene) -> None:
    together = scene.answer(vlm)
    for row in range(len(scene.asks)):
        alone = scene.alone(row).answer(vlm)
        same_reply(together.token_ids[row], together.logits[row], alone.token_ids[0], alone.logits[0])


def check_trace_equals_hooks(vlm: VLM, scene: Scene) -> None:
    replies = scene.answer(vlm)
    inputs = vlm.prefill(scene.prompts()).decoding_inputs()
    settings: dict[str, Any] = {"do_sample": False, "max_new_tokens": scene.tokens, "eos_token_id": []}
    with vlm.installed(scene.ops(vlm)):
        output = vlm.model.generate(**inputs, **settings, output_logits=True, return_dict_in_generate=True)
    assert output.sequences[:, -scene.tokens :].tolist() == replies.token_ids
    bitwise(torch.stack(output.logits, 1), replies.logits)


def check_zero_strength_changes_nothing(vlm: VLM, scene: Scene) -> None:
    """All rows at once, and each row beside one that is steered."""
    silent = replace(scene, pulls=tuple(replace(pull, strength=0.0) for pull in scene.pulls))
    plain = scene.answer(vlm, [])
    zero = silent.answer(vlm)
    assert zero.token_ids == plain.token_ids
    bitwise(zero.logits, plain.logits)
    for row in range(len(scene.asks)):
        number = torch.ones(len(scene.asks))
        number[row] = 0
        one = scene.answer(vlm, [replace(op, strength=number) for op in scene.ops(vlm)])
        bitwise(one.logits[row], plain.logits[row])


def check_the_rest_keeps_its_bits(vlm: VLM, scene: Scene, pull: Pull) -> None:
    """Heads' outputs of the block, and all blocks below: only the named heads at the scope's tokens are new."""
    layer = pull.layer % vlm.n_layers
    mask = vlm.encode(scene.prompts()).attention_mask.bool()
    plain, edited = (_heads_of_blocks(vlm, scene, ops) for ops in ([], [pull.op(vlm, len(scene.asks))]))
    for below in range(layer):
        bitwise(edited[below], plain[below])
    for row, ask in enumerate(scene.asks):
        ids = own_inputs(vlm, [ask])["input_ids"][0]
        inside = torch.zeros_like(mask[row])
        inside[mask[row]] = torch.arange(len(ids)) == len(ids) - 1
        for head in range(4):
            new, old = edited[layer][row, :, head], plain[layer][row, :, head]
            chosen = inside & torch.tensor(pull.holds(head))
            bitwise(new[~chosen & mask[row]], old[~chosen & mask[row]])
            if chosen.any():
                assert not torch.equal(new[chosen], old[chosen])


def check_bases_agree(vlm: VLM, scene: Scene) -> None:
    over_sdpa = scene.answer(vlm)
    with attention(vlm, "eager"):
        over_eager = scene.answer(vlm)
    for row in range(len(scene.asks)):
        same_reply(over_sdpa.token_ids[row], over_sdpa.logits[row], over_eager.token_ids[row], over_eager.logits[row])


def check_generated_leaves_the_first_token(vlm: VLM, scene: Scene) -> None:
    plain = scene.answer(vlm, [])
    later = replace(scene, pulls=tuple(replace(p, scope="generated", columns="image") for p in scene.pulls))
    bitwise(later.answer(vlm).logits[:, 0], plain.logits[:, 0])
    both = replace(scene, pulls=tuple(replace(p, scope="response", columns="image") for p in scene.pulls))
    assert not torch.equal(both.answer(vlm).logits[:, 0], plain.logits[:, 0])


def _heads_of_blocks(vlm: VLM, scene: Scene, ops: list) -> list[Tensor]:
    """What each block's output projection is given, [batch, tokens, head, width], in one pass with a last step."""
    seen: list[Tensor] = []
    inputs = own_inputs(vlm, scene.asks)
    with vlm.installed(ops), torch.no_grad():
        path = f"{places.BLOCKS}.{{}}.self_attn.o_proj"
        with _all(vlm, [path.format(layer) for layer in range(vlm.n_layers)], seen):
            vlm.model(**inputs)
    return [hidden.unflatten(-1, (4, -1)) for hidden in seen]


def _all(vlm: VLM, paths: list[str], seen: list[Tensor]) -> Any:
    stack = ExitStack()
    for path in paths:
        stack.enter_context(hooked(vlm, path, "input", lambda hidden: seen.append(hidden.clone())))
    return stack


def _as_case(scene: Scene) -> Case:
    return Case(scene.asks, (), scene.tokens)


PROMPT_ONLY = ("all", "prompt", "image", "last_prompt", "response")


@ON_RANDOM
@FEW
@given(scene=scenes())
def test_edits_equal_a_pass_by_hand(name: str, scene: Scene) -> None:
    check_edits_equal_a_pass_by_hand(build(name), scene)


def test_a_reply_with_edits_equals_a_pass_by_hand(vlm: VLM) -> None:
    """On every model and family."""
    check_edits_equal_a_pass_by_hand(vlm, ON_ANY)


@ON_RANDOM
@given(scene=scenes(scopes=PROMPT_ONLY))
def test_padding_on_the_right_equals_a_pass_by_hand(name: str, scene: Scene) -> None:
    kept = tuple(pull for pull in scene.pulls if pull.columns != "reply") or (Pull(),)
    check_padding_on_the_right_equals_a_pass_by_hand(build(name), replace(scene, pulls=kept))


@ON_RANDOM
@FEW
@given(scene=scenes())
def test_cache_on_equals_off(name: str, scene: Scene) -> None:
    check_cache_on_equals_off(build(name), scene)


@ON_RANDOM
@FEW
@given(scene=scenes(rows=(2, 4)))
def test_row_equals_prompt_alone(name: str, scene: Scene) -> None:
    check_row_equals_prompt_alone(build(name), scene)


@ON_RANDOM
@HALF
@FEW
@given(scene=scenes(scopes=RESPONSE))
def test_trace_equals_hooks(name: str, dtype: torch.dtype, scene: Scene) -> None:
    check_trace_equals_hooks(build(name, dtype), scene)


@ON_RANDOM
@HALF
@FEW
@given(scene=scenes(rows=(2, 3)))
def test_zero_strength_changes_nothing(name: str, dtype: torch.dtype, scene: Scene) -> None:
    check_zero_strength_changes_nothing(build(name, dtype), scene)


@ON_RANDOM
@HALF
@FEW
@given(scene=scenes(rows=(2, 3)))
def test_the_rest_keeps_its_bits(name: str, dtype: torch.dtype, scene: Scene) -> None:
    pull = replace(scene.pulls[0], scope="last_prompt", columns="image", kind="drop")
    check_the_rest_keeps_its_bits(build(name, dtype), scene, pull)


@ON_RANDOM
@FEW
@given(scene=scenes())
def test_bases_agree(name: str, scene: Scene) -> None:
    check_bases_agree(build(name), scene)


@ON_RANDOM
@given(scene=scenes(kinds=("boost", "drop")))
def test_generated_leaves_the_first_token(name: str, scene: Scene) -> None:
    check_generated_leaves_the_first_token(build(name), scene)

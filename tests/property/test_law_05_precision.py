"""Law 5, to the bit: prefill, crop, replay and decode written out with plain hooks, in float32, bfloat16, float16."""

from contextlib import AbstractContextManager, ExitStack

import pytest
import torch
from hypothesis import given
from torch import Tensor

from interv import VLM
from tests.property.cases import Case, Push, cases
from tests.property.reference import bitwise, hooked, own_inputs
from tests.tiny_models import RANDOM, build

RESPONSE = ("response", "generated", "last_prompt")


def check_hand_written_stages_give_the_same_bits(vlm: VLM, case: Case) -> None:
    replies = case.answer(vlm)
    tokens, logits = stages_by_hand(vlm, case)
    assert replies.token_ids == tokens
    bitwise(replies.logits, logits)


def stages_by_hand(vlm: VLM, case: Case) -> tuple[list[list[int]], Tensor]:
    """The whole batch at once: the prompt without hooks, its last token again with them, then token by token."""
    inputs = own_inputs(vlm, case.asks)
    mask, positions = inputs["attention_mask"], own_positions(vlm, inputs)
    tokens, logits = [], []
    with torch.no_grad():
        prompt = vlm.model(**inputs, position_ids=positions, use_cache=True, logits_to_keep=1)
        cache, token = prompt.past_key_values, inputs["input_ids"][:, -1:]
        cache.crop(-1)
        for step in range(case.tokens):
            with ExitStack() as stack:
                for push in case.pushes:
                    if push.scope == "response" or (push.scope == "generated") == (step > 0):
                        stack.enter_context(pushed_everywhere(vlm, push, len(case.asks)))
                logits.append(
                    vlm.model(
                        input_ids=token,
                        attention_mask=torch.cat([mask, mask.new_ones(len(mask), step)], 1),
                        position_ids=positions[..., -1:] + step,
                        past_key_values=cache,
                        use_cache=True,
                    ).logits[:, -1]
                )
            token = logits[-1].argmax(-1, keepdim=True)
            tokens.append(token)
    return torch.cat(tokens, 1).tolist(), torch.stack(logits, 1).float()


def own_positions(vlm: VLM, inputs: dict[str, Tensor]) -> Tensor:
    """Counted over the tokens without padding; time, height and width on Qwen-VL, by transformers' own rule."""
    positions = (inputs["attention_mask"].cumsum(1) - 1).clamp_min(0)
    if not hasattr(vlm.model.model, "get_rope_index"):
        return positions
    if "image_grid_thw" not in inputs:
        return positions.expand(3, -1, -1)
    named = {name: inputs[name] for name in ("mm_token_type_ids", "image_grid_thw", "attention_mask")}
    return vlm.model.model.get_rope_index(inputs["input_ids"], **named)[0]


def pushed_everywhere(vlm: VLM, push: Push, rows: int) -> AbstractContextManager[None]:
    """The sum of hidden state and `strength * vector`, cast to the hidden state's precision after the product."""
    place = push.where(vlm)
    number = torch.as_tensor(push.number(rows)).reshape(-1, 1, 1)
    shift = number * push.vector(vlm, rows).reshape(-1, 1, place.width)

    def change(hidden: Tensor) -> Tensor | None:
        new = place.put(hidden, place.take(hidden) + shift.to(hidden))
        if not place.in_stream:
            return new
        hidden.copy_(new)
        return None

    return hooked(vlm, place.path, place.side, change)


@given(case=cases(scopes=RESPONSE, kinds=("add",)))
def test_hand_written_stages_give_the_same_bits(vlm: VLM, case: Case) -> None:
    check_hand_written_stages_give_the_same_bits(vlm, case)


@pytest.mark.parametrize("name", RANDOM)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@given(case=cases(scopes=RESPONSE, kinds=("add",)))
def test_half_precision_gives_the_same_bits(name: str, dtype: torch.dtype, case: Case) -> None:
    """Vectors come in float32 and are cast where they are used."""
    check_hand_written_stages_give_the_same_bits(build(name, dtype), case)

"""Laws 7 and 10 for one's own function: it is given the scope's tokens, told which they are, and gives as many back."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from torch import Tensor

from interv import SCOPES, VLM, Apply, Capture, Here, Site
from tests.property.cases import Ask, Case, cases
from tests.property.reference import bitwise, own_inputs, own_scope
from tests.property.test_law_09_touched import raising
from tests.tiny_models import RANDOM, build

WRONG: dict[str, tuple[Callable[[Tensor, Any], Any], str]] = {
    "dtype": (lambda hidden, here: hidden.double(), "torch.float64"),
    "shape": (lambda hidden, here: hidden[..., 1:], "shape"),
    "fewer tokens": (lambda hidden, here: hidden[:0], "shape"),
    "NaN": (lambda hidden, here: hidden * math.nan, "NaN"),
    "infinite": (lambda hidden, here: hidden / 0.0, "infinite"),
    "another thing": (lambda hidden, here: [hidden], "gave back"),
}


def check_a_function_is_given_the_scopes_tokens(vlm: VLM, case: Case, every: bool = False) -> None:
    """Over prefill, replay and decoding, what it sees is what a capture reads, in the same order."""
    unchanged = case.answer(vlm, []).logits
    for scope in SCOPES:
        if scope == "image" and not all(ask.sizes for ask in case.asks):
            continue
        seen: list[tuple[Here, Tensor]] = []

        def note(hidden: Tensor, here: Here, seen: list = seen) -> Tensor:
            seen.append((here, hidden.clone()))
            return hidden.add_(0.0)  # its own to change

        capture = Capture(Site(0), scope)
        replies = case.answer(vlm, [capture, Apply(Site(0), note, scope, every)])
        if scope in ("response", "generated"):
            bitwise(replies.logits, unchanged)
        for row, ask in enumerate(case.asks):
            own = [(here, hidden) for here, hidden in seen if here.row == row]
            prompt = own_inputs(vlm, [ask])["input_ids"][0]
            ids = torch.cat([prompt, torch.tensor(replies.token_ids[row][:-1], dtype=torch.long)])
            expected = own_scope(vlm, scope, ids, len(prompt))
            states = torch.cat([hidden[here.inside] for here, hidden in own])
            read = replies.captured[capture]
            bitwise(states, read[row] if scope != "last_prompt" else read[row][None])
            assert every or all(here.inside.all() for here, _ in own)
            kinds = {
                kind: torch.cat([here.kinds[kind][here.inside] for here, _ in own]).tolist()
                for kind in ("image", "last_prompt", "generated")
            }
            for kind, told in kinds.items():
                assert told == own_scope(vlm, kind, ids, len(prompt))[expected].tolist(), kind
            steps = [here.step for here, _ in own if here.kinds["generated"].any()]
            assert steps == list(range(1, len(steps) + 1))
            assert all(here.step == 0 for here, _ in own if not here.kinds["generated"].any())


def check_a_wrong_result_is_refused(vlm: VLM, name: str) -> None:
    """By the site's name, in a trace, among hooks, and where a function is run by TransformerLens' rules."""
    (function, word), case = WRONG[name], Case((Ask(),))
    op, inputs = Apply(Site(1), function), own_inputs(vlm, case.asks)

    def through_hooks() -> None:
        with vlm.installed([op]), torch.no_grad():
            vlm.model(**inputs)

    for run in (
        lambda: case.answer(vlm, [op]),
        lambda: vlm.logits(case.prompts(), [op]),
        through_hooks,
        lambda: vlm.run_with_hooks(case.prompts(), [("blocks.1.hook_resid_post", function)]),
    ):
        with raising(ValueError, "blocks.1.hook_resid_post", word):
            run()


@given(case=cases(ops=(0, 0)))
def test_a_function_is_given_the_scopes_tokens(vlm: VLM, case: Case) -> None:
    check_a_function_is_given_the_scopes_tokens(vlm, case)
    check_a_function_is_given_the_scopes_tokens(vlm, case, every=True)


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_result_is_refused(vlm: VLM, name: str) -> None:
    check_a_wrong_result_is_refused(vlm, name)


@pytest.mark.parametrize("name", RANDOM)
def test_a_change_of_precision_is_refused_in_half_precision(name: str) -> None:
    vlm = build(name, torch.bfloat16)
    with raising(ValueError, "torch.float32", "torch.bfloat16", "attn.hook_z"):
        vlm.logits(Case().prompts(), [Apply("blocks.1.attn.hook_z", lambda hidden, here: hidden.float())])
    same = Apply("blocks.1.attn.hook_z", lambda hidden, here: hidden)
    bitwise(vlm.logits(Case().prompts(), [same]), vlm.logits(Case().prompts()))

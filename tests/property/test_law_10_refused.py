"""Law 10: what does not fit is refused at the door, before the model runs, by a message that says what would fit."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interv import VLM, Add, Apply, Capture, Site, stack
from interv.ops.edits import Project, Replace, Scale
from tests.property import places
from tests.property.cases import Case
from tests.property.places import VISION
from tests.property.reference import own_inputs
from tests.property.test_law_09_touched import raising
from tests.tiny_models import build

Make = Callable[[VLM], Any]


@dataclass(frozen=True)
class Wrong:
    """How to make an op that does not fit, the error, and words of its message."""

    make: Make
    words: tuple[str, ...]
    error: type[Exception] = ValueError


def ones(vlm: VLM, *shape: int) -> torch.Tensor:
    return torch.ones(*shape, vlm.d_model)


def heads(vlm: VLM) -> int:
    return vlm.model.config.get_text_config().num_key_value_heads


def vision(vlm: VLM) -> Site:
    return Site.parse(VISION[vlm.model.config.model_type][0])


# Exception: with shapes checked, the type of an argument is refused before its value is looked at.
WRONG = {
    "width": Wrong(lambda vlm: Add(Site(1), torch.ones(vlm.d_model + 1)), ("width", "blocks.1.hook_resid_post")),
    "width of rows": Wrong(lambda vlm: Add(Site(1), torch.ones(2, 3)), ("width 3", "blocks.1")),
    "NaN": Wrong(lambda vlm: Add(Site(1), ones(vlm) * float("nan")), ("NaN", "vector")),
    "infinity": Wrong(lambda vlm: Add(Site(1), ones(vlm) / 0), ("infinite", "vector")),
    "NaN strength": Wrong(lambda vlm: Add(Site(1), ones(vlm), strength=float("nan")), ("strength", "finite")),
    "infinite row strength": Wrong(
        lambda vlm: Add(Site(1), ones(vlm), strength=torch.tensor([1.0, float("inf")])), ("strength", "infinite")
    ),
    "NaN factor": Wrong(lambda vlm: Scale(Site(1), float("nan")), ("factor", "finite")),
    "NaN value": Wrong(lambda vlm: Replace(Site(1), ones(vlm) * float("nan")), ("value", "NaN")),
    "no direction": Wrong(lambda vlm: Project(Site(1), 0 * ones(vlm)), ("length zero",)),
    "meta device": Wrong(lambda vlm: Add(Site(1), torch.ones(vlm.d_model, device="meta")), ("meta",)),
    "whole numbers": Wrong(lambda vlm: Add(Site(1), ones(vlm).long()), ("vector",), Exception),
    "three axes": Wrong(lambda vlm: Add(Site(1), ones(vlm, 1, 1)), ("vector",), Exception),
    "fingerprint": Wrong(lambda vlm: Add(Site(1), ones(vlm), fingerprint="0" * 16), ("0" * 16, "captured from")),
    "rows": Wrong(lambda vlm: Add(Site(1), ones(vlm, 5)), ("5 rows", "batch has 2")),
    "rows of strengths": Wrong(lambda vlm: Add(Site(1), ones(vlm), strength=torch.ones(3)), ("3 rows", "batch has 2")),
    "rows that differ": Wrong(lambda vlm: Add(Site(1), ones(vlm, 2), strength=torch.ones(3)), ("[2",), Exception),
    "layer": Wrong(lambda vlm: Add(Site(99), ones(vlm)), ("Site(99)", "decoder blocks", "layer runs from 0 to")),
    "path": Wrong(lambda vlm: Add(Site.parse(f"{places.BLOCKS}.0.mpl"), ones(vlm)), ("mpl", "self_attn", "mlp")),
    "top of path": Wrong(lambda vlm: Capture(Site.parse("decoder.0")), ("the model has model, lm_head",)),
    "tokens at patches": Wrong(lambda vlm: Capture(vision(vlm)), ("image patches", "tokens='all'")),
    "scope at patches": Wrong(lambda vlm: Add(vision(vlm), ones(vlm)), ("image patches", "scope='all'")),
    "rows at patches": Wrong(lambda vlm: Add(vision(vlm), ones(vlm, 2), "all"), ("one vector for all",)),
    "image op before the image": Wrong(
        lambda vlm: Add(Site.parse(f"{places.BLOCKS.rpartition('.')[0]}.embed_tokens"), ones(vlm), "image"),
        ("replace what stands there", "blocks.0.hook_resid_pre"),
    ),
    "more than the precision holds": Wrong(
        lambda vlm: Add(Site(1), ones(vlm) * 1e30, strength=1e10), ("strength * vector", "torch.float32", "smaller")
    ),
    "strength in words": Wrong(lambda vlm: Add(Site(1), ones(vlm), strength="2"), ("strength",), Exception),
    "no end of a strength": Wrong(lambda vlm: Add(Site(1), ones(vlm), strength=10**400), ("strength", "finite")),
    "part of a token": Wrong(lambda vlm: Capture(Site(1), 1.5), ("tokens",), Exception),
    "indices of other rows": Wrong(
        lambda vlm: Capture(Site(1), torch.zeros(3, 1, dtype=torch.long)), ("3 rows", "batch has 2")
    ),
    "layer by name": Wrong(lambda vlm: Add(Site("1"), ones(vlm)), ("layer",), Exception),
    "no op": Wrong(lambda vlm: "Add", ("Add",), Exception),
    "no site": Wrong(lambda vlm: Add(1, ones(vlm)), ("Site",), Exception),
    "no name": Wrong(lambda vlm: Add("blocks.1.hook_x", ones(vlm)), ("'hook_x'", "the places are hook_resid_pre")),
    "layer from the end": Wrong(lambda vlm: Add(Site(-99), ones(vlm)), ("Site(-99)", "decoder blocks", "to -1")),
    "vision layer": Wrong(
        lambda vlm: Capture(Site(99, tower="vision"), "all"), ("Site(99)", "vision blocks", "layer runs from 0 to")
    ),
    "query head": Wrong(
        lambda vlm: Capture(Site(1, "hook_q", head=99)), ("blocks.1.attn.hook_q[99]", "head runs from 0 to")
    ),
    "key-value head": Wrong(
        lambda vlm: Add(Site(1, "hook_k", head=heads(vlm)), ones(vlm)), ("attn.hook_k", "head runs from 0 to")
    ),
    "width of a head": Wrong(
        lambda vlm: Add(Site(1, "hook_z", head=0), ones(vlm)), ("width", "blocks.1.attn.hook_z[0]", "there")
    ),
    "width of a denominator": Wrong(lambda vlm: Add(Site(1, "ln1.hook_scale"), ones(vlm)), ("width", "is 1 there")),
    "no function": Wrong(lambda vlm: Apply(Site(1), ones(vlm)), ("function",), Exception),
    "no scope": Wrong(lambda vlm: Add(Site(1), ones(vlm), "reply"), ("reply",), Exception),
}


def check_wrong_op_is_refused(vlm: VLM, name: str) -> None:
    """By each way of running, before any module runs."""
    wrong, case, ran = WRONG[name], Case(), []
    handle = vlm.model.register_forward_pre_hook(lambda *args: ran.append(1))
    try:
        with raising(wrong.error, *wrong.words):
            vlm.generate(case.prompts(), [wrong.make(vlm)])
        with raising(wrong.error, *wrong.words):
            vlm.logits(case.prompts(), [wrong.make(vlm)])
        if "batch has" not in str(wrong.words):  # hooks learn the number of rows when the model runs
            with raising(wrong.error, *wrong.words), vlm.installed([wrong.make(vlm)]):
                pass
    finally:
        handle.remove()
    assert not ran, "the model ran before the op was refused"


@pytest.mark.parametrize("name", WRONG)
def test_wrong_op_is_refused(vlm: VLM, name: str) -> None:
    check_wrong_op_is_refused(vlm, name)


@given(place=st.integers(0, 10**6), bad=st.sampled_from((float("nan"), float("inf"), float("-inf"))))
def test_one_bad_number_anywhere_is_found(place: int, bad: float) -> None:
    vector = torch.zeros(2, 24)
    vector.view(-1)[place % vector.numel()] = bad
    with raising(ValueError, "NaN or infinite"):
        Add(Site(0), vector)


def check_wrong_rows_are_refused_by_hooks(vlm: VLM) -> None:
    """When the model runs, which is when the rows are known; one row for two prompts is not repeated."""
    inputs = own_inputs(vlm, Case().asks)
    for rows in (1, 3, 4, 5):
        with raising(ValueError, f"{rows} rows", "batch has 2"), vlm.installed([Add(Site(1), ones(vlm, rows))]):
            vlm.model(**inputs)
        with raising(ValueError, f"{rows} rows", "batch has 2"), vlm.installed([Add(Site(1), ones(vlm, rows))]):
            vlm.model.generate(**inputs, max_new_tokens=2)


def test_wrong_rows_are_refused_by_hooks(vlm: VLM) -> None:
    check_wrong_rows_are_refused_by_hooks(vlm)


@pytest.mark.parametrize("op", [Add, Replace])
def test_what_overflows_half_precision_is_refused_there_alone(op: Any) -> None:
    single, half = (build("random-llava", dtype) for dtype in (torch.float32, torch.float16))
    large = op(Site(1), ones(single) * 70000.0)
    single.logits(Case().prompts(), [large])
    with raising(ValueError, "7e+04", "torch.float16", "6.55e+04"):
        half.logits(Case().prompts(), [large])


def test_a_single_op_or_prompt_is_no_list_of_them(vlm: VLM) -> None:
    op, prompt = Add(Site(1), ones(vlm)), Case().prompts()[0]
    for call in (
        lambda: vlm.generate([prompt], op),
        lambda: vlm.generate(prompt),
        lambda: vlm.logits(prompt),
        lambda: vlm.capture(prompt, [Site(1)]),
        lambda: vlm.prefill(prompt),
        lambda: vlm.installed(op),
    ):
        with raising(Exception):  # with shapes checked, by the type of the argument
            call()


def test_another_model_does_not_go_on_from_a_prefill(vlm: VLM) -> None:
    prefill = vlm.prefill(Case().prompts())
    twin = VLM(copy.deepcopy(vlm.model), vlm.processor)
    for run in (twin.generate, twin.logits):
        with raising(ValueError, "another model's"):
            run(prefill)


def test_ops_of_two_models_are_not_stacked(vlm: VLM) -> None:
    """Nor does stacking make a marked op pass for an unmarked one."""
    marked, foreign = (Add(Site(1), ones(vlm), fingerprint=mark) for mark in (vlm.fingerprint, "0" * 16))
    with raising(ValueError, "captured from models", "0" * 16):
        stack([[marked], [foreign]], 2)
    prefill = vlm.prefill(Case().prompts()).select([0, 1] * 2)
    with raising(ValueError, "captured from", "0" * 16):
        vlm.logits(prefill, stack([[Add(Site(1), ones(vlm))], [foreign]], 2))
    with raising(Exception, "Scale"):
        stack([[Scale(Site(1), 2.0)]], 2)

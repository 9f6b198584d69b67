"""Installed hooks in code that is not ours: other ways of calling, several contexts, captures, threads."""

from concurrent.futures import ThreadPoolExecutor
from inspect import signature

import pytest
import torch

from interv import VLM, Add, Capture, Scale, Site
from tests.property.cases import Case
from tests.property.reference import bitwise, close, own_inputs

SITE = Site(1)


def push(vlm: VLM, scope: str = "last_prompt") -> Add:
    return Add(SITE, torch.randn(vlm.d_model, generator=torch.Generator().manual_seed(0)), scope)


def answered(vlm: VLM, **options) -> list[list[int]]:
    inputs = own_inputs(vlm, Case().asks)
    output = vlm.model.generate(**inputs, do_sample=False, max_new_tokens=4, eos_token_id=[], **options)
    return output[:, inputs["input_ids"].shape[1] :].tolist()


@torch.no_grad()
def test_arguments_may_come_by_position(vlm: VLM) -> None:
    """Padded on the right, so that the mask decides which token is the last."""
    inputs = own_inputs(vlm, Case().asks, side="right")
    with vlm.installed([push(vlm)]):
        named = vlm.model(**inputs).logits
    names = list(signature(type(vlm.model).forward).parameters)[1:]
    count = 1 + max(names.index(name) for name in ("input_ids", "attention_mask"))
    placed = [inputs.pop(name, None) for name in names[:count]]
    with vlm.installed([push(vlm)]):
        bitwise(vlm.model(*placed, **inputs).logits, named)


def test_contexts_may_end_in_any_order(vlm: VLM) -> None:
    before = answered(vlm)
    first, second = (vlm.installed([Add(SITE, push(vlm).vector, strength=s)]) for s in (0.5, 0.25))
    first.__enter__()
    second.__enter__()
    both = answered(vlm)
    first.__exit__(None, None, None)
    with vlm.installed([Add(SITE, push(vlm).vector, strength=0.5)]):
        assert answered(vlm) == both
    second.__exit__(None, None, None)
    assert "generate" not in vars(vlm.model)
    assert answered(vlm) == before


@torch.no_grad()
def test_captures_of_installed_hooks_can_be_read(vlm: VLM) -> None:
    last, generated = Capture(SITE), Capture(SITE, "generated")
    with vlm.installed([last, generated]) as reads:
        answered(vlm)
    assert len(reads[last]) == 1
    close(reads[last][0], vlm.capture(Case().prompts(), [SITE])[SITE])
    assert [len(step) for step in reads[generated]] == [2, 2, 2]


def test_what_hooks_cannot_follow_is_refused(vlm: VLM) -> None:
    for name in ("assistant_model", "guidance_scale", "prompt_lookup_num_tokens"):
        with pytest.raises(ValueError, match=name), vlm.installed([push(vlm)]):
            answered(vlm, **{name: 3})
    with pytest.raises(ValueError, match="tell the prompt from the reply"), vlm.installed([push(vlm)]):
        vlm.model.generate(max_new_tokens=2)


@pytest.mark.parametrize("path", ["model.language_model", "model"])
def test_a_module_that_puts_out_several_things_can_be_changed(vlm: VLM, path: str) -> None:
    """The first of them is the hidden state; behind the decoder it is what the output head is given."""
    inside = [Scale(Site.parse(path), 0.5)]
    head = [Scale(Site.parse("lm_head", side="input"), 0.5)]
    prompts = Case().prompts()
    close(vlm.logits(prompts, inside), vlm.logits(prompts, head))
    with vlm.installed(inside):
        ours = answered(vlm)
    with vlm.installed(head):
        assert answered(vlm) == ours
    capture = Capture(Site.parse(path))
    close(
        vlm.capture(prompts, [capture.site])[capture.site],
        vlm.capture(prompts, [Site.parse("lm_head", "input")])[Site.parse("lm_head", "input")],
    )


def test_a_place_without_a_hidden_state_says_so(vlm: VLM) -> None:
    place = Site.parse("model.language_model.embed_tokens", side="input")
    with pytest.raises(ValueError, match=r"embed_tokens holds no hidden state but torch.int64"):
        vlm.capture(Case().prompts(), [place])


def test_threads_that_share_a_model_take_turns(vlm: VLM) -> None:
    runs = [[], [push(vlm, "response")], [push(vlm, "all")]] * 4
    prompts = Case().prompts()
    alone = [vlm.generate(prompts, ops, max_new_tokens=3).token_ids for ops in runs]
    with ThreadPoolExecutor(3) as pool:
        together = pool.map(lambda ops: vlm.generate(prompts, ops, max_new_tokens=3).token_ids, runs)
        assert list(together) == alone

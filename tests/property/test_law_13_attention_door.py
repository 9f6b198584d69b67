"""Law 13, at the door and on leaving: what cannot act inside attention is refused, and the model is as it was."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from interv import VLM, Add, Apply, Boost, Capture, Drop, Scale, Site
from tests.property import places
from tests.property.attention_cases import Scene
from tests.property.cases import Ask
from tests.property.reference import bitwise, own_inputs
from tests.property.test_law_08_clean import Planted
from tests.property.test_law_09_touched import raising
from tests.tiny_models import RANDOM, build

ON_RANDOM = pytest.mark.parametrize("name", RANDOM)
SCORES, WEIGHTS = Site(1, "hook_attn_scores"), Site(1, "hook_pattern")
TEXT_BESIDE = (Ask(), Ask("text", ()))

WRONG: dict[str, tuple[Callable[[VLM], Any], type[Exception], tuple[str, ...]]] = {
    "a head too many": (lambda vlm: Boost(SCORES, 1.0, heads=[0, 4]), ValueError, ("no head 4", "4 heads", "0 to 3")),
    "a head's site too many": (lambda vlm: Capture(Site(1, "hook_pattern", head=4)), ValueError, ("4 heads",)),
    "a key head too many": (lambda vlm: Capture(Site(1, "hook_rot_k", head=2)), ValueError, ("2 heads", "0 to 1")),
    "a negative head": (lambda vlm: Drop(WEIGHTS, heads=[-1]), ValueError, ("heads", "from 0")),
    "no heads": (lambda vlm: Drop(WEIGHTS, heads=[]), ValueError, ("heads",)),
    "heads twice": (lambda vlm: Boost(Site(1, "hook_attn_scores", head=1), 1.0, heads=[1]), ValueError, ("a head",)),
    "a block too many": (lambda vlm: Boost(Site(99, "hook_attn_scores"), 1.0), ValueError, ("Site(99)", "0 to")),
    "boosted weights": (lambda vlm: Boost(WEIGHTS, 1.0), ValueError, ("Boost", "Site(1, 'hook_attn_scores')")),
    "dropped scores": (lambda vlm: Drop(SCORES), ValueError, ("Drop", "Site(1, 'hook_pattern')")),
    "boosted stream": (lambda vlm: Boost(Site(1), 1.0), ValueError, ("hook_resid_post", "hook_attn_scores")),
    "no such column": (lambda vlm: Boost(SCORES, 1.0, "pixels"), Exception, ("pixels",)),
    "no such scope": (lambda vlm: Boost(SCORES, 1.0, scope="reply"), Exception, ("reply",)),
    "NaN": (lambda vlm: Boost(SCORES, float("nan")), ValueError, ("strength", "finite")),
    "an endless threshold": (lambda vlm: Drop(WEIGHTS, threshold=float("inf")), ValueError, ("threshold", "finite")),
    "strengths of other rows": (lambda vlm: Boost(SCORES, torch.ones(3)), ValueError, ("3 rows", "batch has 2")),
    "a foreign fingerprint": (lambda vlm: Drop(WEIGHTS, fingerprint="0" * 16), ValueError, ("0" * 16,)),
    "a vector": (lambda vlm: Add(WEIGHTS, torch.ones(4)), ValueError, ("Add", "Boost", "Drop")),
    "a factor": (lambda vlm: Scale(SCORES, 2.0), ValueError, ("Scale", "Boost", "Drop")),
    "rotated keys": (lambda vlm: Apply(Site(1, "hook_rot_k"), torch.clone), ValueError, ("only be read", "hook_k")),
    "the vision tower": (
        lambda vlm: Capture(Site(0, "hook_pattern", tower="vision"), "all"),
        ValueError,
        ("vision tower",),
    ),
}


def check_wrong_edit_is_refused(vlm: VLM, name: str) -> None:
    make, error, words = WRONG[name]
    ran: list[int] = []
    handle = vlm.model.register_forward_pre_hook(lambda *_: ran.append(1))
    try:
        with raising(error, *words):
            vlm.generate(Scene().prompts(), [make(vlm)])
        if "batch has" not in str(words):  # hooks learn the number of rows when the model runs
            with raising(error, *words), vlm.installed([make(vlm)]):
                pass
    finally:
        handle.remove()
    assert not ran


def check_columns_that_no_row_has_are_refused(vlm: VLM) -> None:
    """A row without an image has none of the image's columns; strength 0 leaves it out, and text is in every row."""
    prompts = [ask.prompt() for ask in TEXT_BESIDE]
    for columns in ("image", "before_image", "after_image"):
        op = Boost(SCORES, 1.0, columns)
        with raising(RuntimeError, f"{columns!r}", "[1]", "no image"):
            vlm.generate(prompts, [op], max_new_tokens=2)
        with raising(RuntimeError, "no image"), vlm.installed([op]), torch.no_grad():
            vlm.model(**own_inputs(vlm, TEXT_BESIDE))
        given = vlm.logits(prompts, [Boost(SCORES, torch.tensor([1.0, 0.0]), columns)])
        plain = vlm.logits(prompts)
        bitwise(given[1], plain[1])
        assert not torch.equal(given[0], plain[0])
    with raising(RuntimeError, "touched no token"):
        vlm.logits(prompts, [Boost(SCORES, 1.0, "reply")])
    assert not torch.equal(vlm.logits(prompts, [Boost(SCORES, 1.0, "text")])[1], plain[1])


def check_other_attention_is_refused(vlm: VLM) -> None:
    config = vlm.model.config.get_text_config()
    before = config._attn_implementation
    try:
        config._attn_implementation = "flash_attention_2"
        with raising(ValueError, "flash_attention_2", "sdpa", "eager"):
            vlm.logits(Scene().prompts(), Scene().ops(vlm))
    finally:
        config._attn_implementation = before


def check_nothing_stays(vlm: VLM) -> None:
    """After runs and contexts, nested ones and those that end by an error too."""
    scene = Scene()
    before = own_state(vlm)
    plain = scene.answer(vlm, []).logits

    def planted() -> Iterator[None]:
        with vlm.installed(scene.ops(vlm)), vlm.installed([Capture(WEIGHTS)]):
            vlm.model(**own_inputs(vlm, scene.asks))
            assert own_state(vlm) != before
            raise Planted
        yield

    scene.answer(vlm)
    assert own_state(vlm) == before
    with pytest.raises(Planted):
        next(planted())
    assert own_state(vlm) == before
    with pytest.raises((Planted, ValueError)):
        scene.answer(vlm, [*scene.ops(vlm), Apply(Site(1), _fails)])
    assert own_state(vlm) == before
    bitwise(scene.answer(vlm, []).logits, plain)


def check_contexts_act_together(vlm: VLM) -> None:
    """Two contexts are as one list; the first may end before the second."""
    one, other = Boost(SCORES, 0.5), Drop(WEIGHTS, heads=[1])
    inputs = own_inputs(vlm, Scene().asks)
    with torch.no_grad():
        with vlm.installed([one, other]):
            expected = vlm.model(**inputs).logits
        with vlm.installed([other]), vlm.installed([one]):
            bitwise(vlm.model(**inputs).logits, expected)
        first, second = vlm.installed([one]), vlm.installed([other])
        first.__enter__()
        second.__enter__()
        vlm.model(**inputs)
        first.__exit__(None, None, None)
        alone = vlm.model(**inputs).logits
        second.__exit__(None, None, None)
        with vlm.installed([other]):
            bitwise(alone, vlm.model(**inputs).logits)


def check_only_runs_with_attention_ops_leave_sdpa(vlm: VLM) -> None:
    """Others do not touch the model's attention at all, and those with such ops leave the vision tower's alone."""
    seen: list[tuple[str, str]] = []
    config, vision = vlm.model.config.get_text_config(), vlm.model.config.vision_config
    path = f"{places.BLOCKS}.0.self_attn"
    handle = vlm.model.get_submodule(path).register_forward_pre_hook(
        lambda *_: seen.append((config._attn_implementation, vision._attn_implementation))
    )
    try:
        Scene().answer(vlm, [Add(Site(1), torch.ones(vlm.d_model)), Capture(Site(0))])
        assert set(seen) == {("sdpa", "sdpa")}
        Scene().answer(vlm)
        assert seen[-1] == ("interv_sdpa", "sdpa")
    finally:
        handle.remove()


def own_state(vlm: VLM) -> list[Any]:
    """The names of all attention, and what the modules carry."""
    names = [config._attn_implementation for config in (vlm.model.config, vlm.model.config.get_text_config())]
    return [*names, sorted(name for module in vlm.model.modules() for name in vars(module) if "interv" in name)]


def _fails(*_: Any) -> torch.Tensor:
    raise Planted


@pytest.mark.parametrize("wrong", WRONG)
@ON_RANDOM
def test_wrong_edit_is_refused(name: str, wrong: str) -> None:
    check_wrong_edit_is_refused(build(name), wrong)


def test_columns_that_no_row_has_are_refused(vlm: VLM) -> None:
    check_columns_that_no_row_has_are_refused(vlm)


def test_other_attention_is_refused(vlm: VLM) -> None:
    check_other_attention_is_refused(vlm)


def test_nothing_stays(vlm: VLM) -> None:
    check_nothing_stays(vlm)


@ON_RANDOM
def test_contexts_act_together(name: str) -> None:
    check_contexts_act_together(build(name))


@ON_RANDOM
def test_only_runs_with_attention_ops_leave_sdpa(name: str) -> None:
    check_only_runs_with_attention_ops_leave_sdpa(build(name))

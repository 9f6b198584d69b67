"""Law 9: an op whose site never ran, or whose scope took in no token, raises; nothing is ever silently unsteered."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st

from interv import VLM, Add, Capture, Site
from tests.property.cases import Ask, Case, asks
from tests.property.places import VISION
from tests.property.reference import own_inputs


@contextmanager
def raising(error: type[Exception], *words: str) -> Iterator[None]:
    """The error comes, and its message has all these words."""
    message = None
    try:
        yield
    except error as found:
        message = str(found)
    assert message is not None, f"no {error.__name__}: the run went on as if nothing were wrong"
    missing = [word for word in words if word not in message]
    assert not missing, f"{message} says nothing of {missing}"


def untouched_runs(vlm: VLM, texts: tuple[Ask, ...]) -> dict[str, Callable[[], Any]]:
    """Runs that reach no token, by what is wrong with them; the prompts hold no image."""
    prompts, case = [ask.prompt() for ask in texts], Case(texts, (), 1)
    site, width = Site(1), vlm.d_model
    ones = torch.ones(width)
    vision = Site.parse(VISION[vlm.model.config.model_type][0])
    vector = torch.ones(_vision_width(vlm))

    def installed(*ops: Any) -> None:
        with vlm.installed(ops), torch.no_grad():
            vlm.model(**own_inputs(vlm, texts))

    def unused() -> None:
        with vlm.installed([Add(site, ones)]):
            pass

    return {
        "decode op, one token": lambda: case.answer(vlm, [Add(site, ones, "generated")]),
        "decode op beside one that ran": lambda: case.answer(vlm, [Add(site, ones), Add(site, ones, "generated")]),
        "decode capture, one token": lambda: case.answer(vlm, [Capture(site, "generated")]),
        "decode op, first logits": lambda: vlm.logits(prompts, [Add(site, ones, "generated")]),
        "decode op, capture": lambda: vlm.capture(prompts, [site], ops=[Add(site, ones, "generated")]),
        "image op, text": lambda: case.answer(vlm, [Add(site, ones, "image")]),
        "image op, text, first logits": lambda: vlm.logits(prompts, [Add(site, ones, "image")]),
        "image op, text, hooks": lambda: installed(Add(site, ones, "image")),
        "vision op, text": lambda: case.answer(vlm, [Add(vision, vector, "all")]),
        "vision op, text, hooks": lambda: installed(Add(vision, vector, "all")),
        "vision capture, text": lambda: vlm.capture(prompts, [vision], tokens="all"),
        "decode op, hooks on one forward": lambda: installed(Add(site, ones, "generated")),
        "hooks, model never called": unused,
    }


def _vision_width(vlm: VLM) -> int:
    vision = vlm.model.config.vision_config
    return getattr(vision, "embed_dim", None) or vision.hidden_size


def check_untouched_ops_raise(vlm: VLM, texts: tuple[Ask, ...]) -> None:
    for name, run in untouched_runs(vlm, texts).items():
        try:
            with raising(RuntimeError, "image" if name.startswith("image") else "touched no token"):
                run()
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error


def check_image_op_needs_an_image_in_every_row(vlm: VLM) -> None:
    mixed, op = Case((Ask(), Ask("text", ()))), Add(Site(1), torch.ones(vlm.d_model), "image")

    def installed() -> None:
        with vlm.installed([op]), torch.no_grad():
            vlm.model(**own_inputs(vlm, mixed.asks))

    for run in (
        lambda: mixed.answer(vlm, [op]),
        lambda: vlm.logits(mixed.prompts(), [op]),
        lambda: vlm.capture(mixed.prompts(), [Site(1)], ops=[op]),
        installed,
    ):
        with raising(RuntimeError, "rows [1]", "image"):
            run()


def check_a_prompt_without_a_cache_is_no_prefill(vlm: VLM) -> None:
    """A model that keeps no cache, as in training with checkpoints, has lost the prompt; it must not just go on."""
    vlm.model.train()
    vlm.model.activation_checkpointing_enable()
    try:
        with raising(RuntimeError, "in its cache", "model.eval()"):
            vlm.generate([Ask().prompt()], max_new_tokens=2)
    finally:
        vlm.model.activation_checkpointing_disable()
        vlm.model.eval()


def test_a_prompt_without_a_cache_is_no_prefill(vlm: VLM) -> None:
    check_a_prompt_without_a_cache_is_no_prefill(vlm)


@given(texts=st.lists(asks((0, 0)), min_size=1, max_size=2).map(tuple))
def test_untouched_ops_raise(vlm: VLM, texts: tuple[Ask, ...]) -> None:
    check_untouched_ops_raise(vlm, texts)


def test_image_op_needs_an_image_in_every_row(vlm: VLM) -> None:
    check_image_op_needs_an_image_in_every_row(vlm)

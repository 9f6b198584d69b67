"""Law 5: contrasts captured behind a shared prefix equal full passes of every prompt by itself."""

from dataclasses import dataclass, replace
from typing import Any, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from interv import VLM
from methods import ContrastPair, capture_contrasts
from methods.contrasts.shared_prefix import Pool
from tests.property import places
from tests.property.cases import Ask, Case, asks
from tests.property.reference import close, from_scratch, full_pass, own_inputs

SAID = 3  # tokens that the model adds by itself where a pool averages over them


@dataclass(frozen=True)
class Contrast:
    """A training example: the question, and the two completions, which may ask with other words."""

    ask: Ask
    positive: str = "yes"
    negative: str = "no"
    suffix: str = ""

    def variants(self) -> tuple[Ask, Ask, Ask]:
        asked = replace(self.ask, question=self.ask.question + self.suffix, answer="")
        return replace(self.ask, answer=""), replace(asked, answer=self.positive), replace(asked, answer=self.negative)

    def pair(self) -> ContrastPair:
        prompt, positive, negative = self.variants()
        images = prompt.prompt()
        same = [replace(variant.prompt(), image=images.image) for variant in (positive, negative)]
        return ContrastPair(images, *same, behavior="b", id=self.ask.question)


def check_contrasts_equal_full_passes(
    vlm: VLM, contrasts: tuple[Contrast, ...], pool: Any, order: Any = "given", batch_size: int = 2
) -> None:
    pairs = [contrast.pair() for contrast in contrasts]
    if order == "image":
        pairs = about_the_same_objects(contrasts, pairs)
    bank = capture_contrasts(
        vlm, pairs, batch_size=batch_size, pool=pool, generated_tokens=SAID, order=order, progress=False
    )
    assert bank.layers == tuple(range(vlm.n_layers))
    assert bank.id == tuple(contrast.ask.question for contrast in contrasts)
    for row, contrast in enumerate(contrasts):
        asked, positive, negative = contrast.variants()
        close(bank.context[row], by_hand(vlm, asked, "last"))
        close(bank.positive[row], by_hand(vlm, positive, pool))
        close(bank.negative[row], by_hand(vlm, negative, pool))


def about_the_same_objects(contrasts: tuple[Contrast, ...], pairs: list[ContrastPair]) -> list[ContrastPair]:
    """The pairs, of which those that show the same pixels hold the same image."""
    first: dict[Any, Any] = {}
    made = []
    for contrast, pair in zip(contrasts, pairs, strict=True):
        image = pair.prompt.image if len(contrast.ask.sizes) != 1 else pair.prompt.image[0]  # type: ignore[index]
        image = first.setdefault((contrast.ask.sizes, contrast.ask.seed), image)
        made.append(
            replace(
                pair, **{name: replace(getattr(pair, name), image=image) for name in ("prompt", "positive", "negative")}
            )
        )
    return made


def by_hand(vlm: VLM, ask: Ask, pool: str) -> Tensor:
    """The pooled hidden states of every layer, `[layers, d_model]`; the last one by a hook, before the final norm."""
    alone, reply = Case((ask,), (), SAID + 1), []
    if pool == "mean_generated":
        ends = vlm.model.generation_config.eos_token_id
        (tokens,), _ = from_scratch(vlm, alone, eos_token_id=ends)
        stop = next((i + 1 for i, token in enumerate(tokens) if token in {ends} or token == ends), len(tokens))
        reply = tokens[: stop - 1]
    last: list[Tensor] = []
    block = vlm.model.get_submodule(f"{places.BLOCKS}.{vlm.n_layers - 1}")
    handle = block.register_forward_hook(lambda module, args, hidden: last.append(hidden))
    states = full_pass(vlm, alone, 0, reply, output_hidden_states=True).hidden_states
    handle.remove()
    layers = torch.stack([*states[1:-1], last[0]])[:, 0]
    if pool in ("last", "before_last"):
        return layers[:, -1 if pool == "last" else -2]
    whole, bare = (own_inputs(vlm, [one])["input_ids"][0].tolist() for one in (ask, replace(ask, answer="")))
    assert whole[: len(bare)] == bare
    return layers[:, len(bare) :].mean(1)


@st.composite
def contrast_lists(draw: st.DrawFn) -> tuple[Contrast, ...]:
    """Pairs with and without images, completions of different lengths, and words that only the training asks with."""
    suffix = st.sampled_from(("", " please"))
    words = st.sampled_from(("yes", "no", "it is", "yes, it is so"))
    return tuple(draw(st.lists(st.builds(Contrast, asks(), words, words, suffix), min_size=1, max_size=3)))


@given(contrasts=contrast_lists(), pool=st.sampled_from(("last", "before_last", "mean", "mean_generated")))
def test_contrasts_equal_full_passes(vlm: VLM, contrasts: tuple[Contrast, ...], pool: str) -> None:
    check_contrasts_equal_full_passes(vlm, contrasts, pool)


@st.composite
def contrasts_about_few_images(draw: st.DrawFn) -> tuple[Contrast, ...]:
    """Several questions about one of two images, of two sizes, in any order; at times one without an image."""
    words = st.sampled_from(("yes", "no", "it is", "yes, it is so"))
    shown = st.sampled_from((((28, 28),), ((28, 28),), ((28, 28),), ((56, 28),), ()))
    ask = st.builds(Ask, st.text("abc ?", min_size=1, max_size=9), shown, st.integers(0, 1))
    return tuple(draw(st.lists(st.builds(Contrast, ask, words, words), min_size=2, max_size=5)))


@given(
    contrasts=contrasts_about_few_images(),
    pool=st.sampled_from(("last", "mean", "mean_generated")),
    batch_size=st.integers(2, 5),
)
def test_pairs_about_one_image_equal_full_passes(
    vlm: VLM, contrasts: tuple[Contrast, ...], pool: str, batch_size: int
) -> None:
    check_contrasts_equal_full_passes(vlm, contrasts, pool, "image", batch_size)


def test_other_images_in_the_completions_run_whole(vlm: VLM) -> None:
    """A pair whose prompts show different images shares no prefix."""
    ask = Ask("same?", ((28, 28),), 0)
    other = replace(ask, seed=1, answer="yes")
    pair = ContrastPair(ask.prompt(), other.prompt(), replace(ask, answer="no").prompt())
    bank = capture_contrasts(vlm, [pair], progress=False)
    close(bank.positive[0], by_hand(vlm, other, "last"))
    close(bank.negative[0], by_hand(vlm, replace(ask, answer="no"), "last"))
    close(bank.context[0], by_hand(vlm, ask, "last"))


@pytest.mark.parametrize("pool", [*get_args(Pool), "one each"])
def test_a_prompt_that_is_its_own_completion_equals_a_copy(vlm: VLM, pool: str) -> None:
    """One object or several: the context is read at the last token, the completions as their pool says."""
    ask = Ask(answer="yes, it is").prompt()
    no = replace(ask, answer="no")
    pairs = [(ask, ask, no), (ask, no, ask), (ask, no, no), (ask, ask, ask)]
    copies = [tuple(replace(prompt) for prompt in prompts) for prompts in pairs]
    pools = list(get_args(Pool)) if pool == "one each" else [pool] * 4
    for rows in (slice(None), slice(3, None)):  # the last pair alone has a single prompt to run
        ours, copied = (
            capture_contrasts(
                vlm, [ContrastPair(*prompts) for prompts in every[rows]], pool=pools[rows], generated_tokens=SAID
            )
            for every in (pairs, copies)
        )
        for name in ("context", "positive", "negative"):
            close(getattr(ours, name), getattr(copied, name))

"""Which tokens make a contrast, against the model's own `generate` with plain hooks, on every family.

The published code concatenates what a decoder block gives in every forward of one sample: the prompt with the forced
answer, then one token a step. It reads the last of the prompt, or averages from the forced answer to the end.
"""

from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch import Tensor

from interv import Prompt
from methods import ContrastPair, capture_contrasts

TOLERANCE = 5e-6


def gap(ours: Tensor, theirs: Tensor) -> float:
    """The greatest difference, as a share of the greatest entry: the families differ in scale."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


def picture(width: int, height: int, seed: int) -> Image.Image:
    pixels = torch.randint(0, 256, (height, width, 3), generator=torch.Generator().manual_seed(seed))
    return Image.fromarray(pixels.to(torch.uint8).numpy())


@pytest.fixture(scope="module")
def pairs() -> list[ContrastPair]:
    """Images of two sizes, questions and answers of several lengths."""
    made = []
    asked = [((56, 28), "is it red ?"), ((28, 28), "is there a cup ? "), ((84, 56), "is it ?")]
    for number, (size, question) in enumerate(asked):
        prompt = Prompt(picture(*size, seed=number), question)
        positive, negative = replace(prompt, answer="yes, it is"), replace(prompt, answer="no")
        made.append(ContrastPair(prompt, positive, negative, behavior="ab"[number % 2], id=str(number)))
    return made


@contextmanager
def hooked(vlm, layer: int):
    """The outputs of one block in every forward, in order."""
    seen: list[Tensor] = []
    block = vlm.model.get_submodule(f"{vlm.layout.blocks}.{layer}")
    handle = block.register_forward_hook(
        lambda module, args, output: seen.append(output if isinstance(output, Tensor) else output[0])
    )
    try:
        yield seen
    finally:
        handle.remove()


def published(vlm, prompt: Prompt, layer: int, new_tokens: int) -> tuple[Tensor, int]:
    """One sample's states over all forwards [tokens, d_model], and the length of its prompt."""
    encoded = vlm.encode([prompt])
    inputs = {name: value for name, value in encoded.model_inputs().items() if name != "position_ids"}
    with hooked(vlm, layer) as seen, torch.no_grad():
        vlm.model.generate(**inputs, max_new_tokens=new_tokens, do_sample=False)
    return torch.cat([states[0] for states in seen]), encoded.input_ids.shape[1]


def answer_length(vlm, prompt: Prompt) -> int:
    """Tokens behind the prompt without its answer."""
    lengths = [len(vlm.encode([each]).tokens(0)) for each in (prompt, replace(prompt, answer="", closed=False))]
    return lengths[0] - lengths[1]


@pytest.mark.parametrize("generated", [0, 1, 5])
def test_mean_over_forced_and_generated_answer(vlm, pairs, generated):
    layer = vlm.n_layers - 2
    bank = capture_contrasts(
        vlm, pairs, pool="mean_generated", layers=[layer], generated_tokens=generated, batch_size=2, progress=False
    )
    for row, pair in enumerate(pairs):
        for ours, prompt in ((bank.positive, pair.positive), (bank.negative, pair.negative)):
            states, length = published(vlm, prompt, layer, generated + 1)
            mean = states[length - answer_length(vlm, prompt) :].mean(0)
            assert gap(ours[row, 0], mean) < TOLERANCE


def test_without_generated_tokens_it_is_the_mean_over_the_forced_answer(vlm, pairs):
    forced = capture_contrasts(vlm, pairs, pool="mean", progress=False)
    none = capture_contrasts(vlm, pairs, pool="mean_generated", generated_tokens=0, progress=False)
    assert torch.equal(forced.positive, none.positive)


@pytest.mark.parametrize("closed", [False, True])
def test_last_token_of_open_and_closed_answers(vlm, pairs, closed):
    """A closed turn ends with what the template puts behind an answer, and that is what is read."""
    layer = vlm.n_layers - 1
    ended = [
        replace(
            pair,
            prompt=replace(pair.prompt, closed=closed),
            positive=replace(pair.positive, closed=closed),
            negative=replace(pair.negative, closed=closed),
        )
        for pair in pairs
    ]
    pools = ["last", "before_last", "last"]
    bank = capture_contrasts(vlm, ended, pool=pools, layers=[layer], progress=False)
    for row, (pair, pool) in enumerate(zip(ended, pools, strict=True)):
        place = -1 if pool == "last" else -2
        states, length = published(vlm, pair.positive, layer, 1)
        assert gap(bank.positive[row, 0], states[:length][place]) < TOLERANCE
        states, length = published(vlm, pair.prompt, layer, 1)
        assert gap(bank.context[row, 0], states[length - 1]) < TOLERANCE
    if closed:
        alone = capture_contrasts(vlm, pairs, layers=[layer], progress=False)
        assert gap(alone.context, bank.context) > 1e-3


def test_one_pool_a_pair_is_the_same_as_one_run_a_pool(vlm, pairs):
    pools = ["mean", "last", "mean_generated"]
    mixed = capture_contrasts(vlm, pairs, pool=pools, generated_tokens=3, progress=False)
    for row, pool in enumerate(pools):
        alone = capture_contrasts(vlm, pairs[row : row + 1], pool=pool, generated_tokens=3, progress=False)
        assert gap(mixed.positive[row], alone.positive[0]) < TOLERANCE
        assert gap(mixed.negative[row], alone.negative[0]) < TOLERANCE


def test_sampled_continuations_repeat_with_their_seed_and_leave_the_random_state(vlm, pairs):
    def run(seed):
        return capture_contrasts(
            vlm, pairs, pool="mean_generated", generated_tokens=4, generated_seed=seed, progress=False
        ).positive

    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = run(3)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(run(3), first)


def test_pools_that_do_not_fit_are_refused(vlm, pairs):
    with pytest.raises(ValueError, match="2 pools for 3 pairs"):
        capture_contrasts(vlm, pairs, pool=["last", "mean"], progress=False)
    with pytest.raises(Exception, match="middle"):
        capture_contrasts(vlm, pairs, pool="middle", progress=False)  # type: ignore[arg-type]


def test_a_token_that_all_prompts_share_can_be_read(vlm, pairs):
    """What they share runs once, but not past the first token that one of them reads."""
    layer = vlm.n_layers - 1
    asked, positive, negative = (replace(pairs[0].prompt, answer=answer) for answer in ("is a", "is b", "is c"))
    alike = [ContrastPair(asked, positive, negative)]
    bank = capture_contrasts(vlm, alike, pool="before_last", layers=[layer], progress=False)
    states, length = published(vlm, positive, layer, 1)
    assert gap(bank.positive[0, 0], states[length - 2]) < TOLERANCE
    assert gap(bank.negative, bank.positive) < TOLERANCE

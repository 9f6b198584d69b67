"""Greedy replies, token by token: no steering, the oracle and L2S on every token of prompt and reply."""

from dataclasses import replace

import pytest

from interv import Add, Site
from methods import P2S, MeanSteering, NoSteering, capture_contrasts, steer
from methods.l2s import L2S
from studies.recipes.named import CODE_POPE_LLAVA
from tests.parity.conftest import LAYER

MARGIN = 1e-4
TOKENS = 24


def mismatches(reply: dict, token_ids: list[list[int]]) -> list[tuple[int, int]]:
    """(row, step) of each first difference that a tie does not excuse.

    Where the two best logits lie closer than MARGIN, rounding may choose the other token; the reply then goes another
    way and the rest of the row says nothing. A row is compared up to its first such step at which the tokens differ.
    """
    found = []
    for row, (theirs, ours, margins) in enumerate(zip(reply["ids"], token_ids, reply["margins"], strict=True)):
        assert len(theirs) == len(ours) == TOKENS
        step = next((step for step in range(TOKENS) if theirs[step] != ours[step]), None)
        if step is not None and margins[step] >= MARGIN:
            found.append((row, step))
    return found


@pytest.fixture(scope="module")
def methods(tiny, golden, captured):
    """The three methods, on the toolkit's own contrasts; the network is the published training's."""
    train = captured["train"]
    network = golden.network("saved")
    l2s = L2S(
        LAYER,
        LAYER,
        tiny.fingerprint,
        scope="all",
        encoder_weight=network.encoder_weight,
        encoder_bias=network.encoder_bias,
        decoder_weight=network.decoder_weight,
    )
    return {"none": NoSteering.fit(train), "p2s": replace(P2S.fit(train), scope="all"), "l2s": l2s}


@pytest.mark.parametrize("method", ["none", "p2s", "l2s"])
def test_greedy_tokens_in_one_batch(tiny, golden, captured, prompts, methods, method):
    vectors = captured["test"].vectors[:20] if method == "p2s" else None
    token_ids = steer(tiny, prompts, methods[method], max_new_tokens=TOKENS, vectors=vectors).token_ids
    assert mismatches(golden.facts["replies"][method], token_ids) == []
    # On the tested versions even the steps below the margin agree, so all 480 tokens were compared.
    agreeing = sum(
        one == other
        for theirs, ours in zip(golden.facts["replies"][method]["ids"], token_ids, strict=True)
        for one, other in zip(theirs, ours, strict=True)
    )
    assert agreeing >= 470


@pytest.mark.parametrize("method", ["none", "p2s", "l2s"])
@pytest.mark.parametrize("row", [0, 7, 19])
def test_greedy_tokens_one_by_one(tiny, golden, captured, prompts, methods, method, row):
    vectors = captured["test"].vectors[row : row + 1] if method == "p2s" else None
    token_ids = steer(tiny, [prompts[row]], methods[method], max_new_tokens=TOKENS, vectors=vectors).token_ids
    published = golden.facts["replies"][method]
    alone = {name: [published[name][row]] for name in ("ids", "margins")}
    assert mismatches(alone, token_ids) == []


def test_the_comparison_sees_a_wrong_scope(tiny, golden, prompts, methods):
    """Steering the reply alone, as the paper writes, gives other tokens than the published run."""
    replies = steer(tiny, prompts, replace(methods["l2s"], scope="response"), max_new_tokens=TOKENS)
    assert len(mismatches(golden.facts["replies"]["l2s"], replies.token_ids)) >= 5


def test_published_mean_steering_adds_one_number_to_the_whole_prompt(tiny, golden, prompts):
    """Its indexing error, rebuilt from ops to show what it is.

    The published code stores the mean vector once an item, takes row k for item k, and takes entry k of that row again.
    So during the prompt the number mean[k] is added to every channel; the vector itself acts on generated tokens alone.
    `MeanSteering` adds the vector in both places, and its replies are others.
    """
    mean = golden["train.mean_shift"]
    numbers = mean[:20, None].expand(20, len(mean))
    ops = [Add(Site(LAYER), numbers, "prompt"), Add(Site(LAYER), mean, "generated")]
    published = golden.facts["replies"]["mean"]
    assert mismatches(published, tiny.generate(prompts, ops, max_new_tokens=TOKENS).token_ids) == []

    steerer = MeanSteering(LAYER, LAYER, tiny.fingerprint, scope="all", vector=mean)
    right = steer(tiny, prompts, steerer, max_new_tokens=TOKENS).token_ids
    assert len(mismatches(published, right)) >= 3


def test_contrasts_of_the_first_items_do_not_depend_on_the_batch(tiny, recipe, pairs, captured):
    rows = pairs["test"][:5]
    alone = capture_contrasts(tiny, rows, **recipe.capturing(rows), batch_size=1, progress=False).at(LAYER, LAYER)
    assert float((alone.vectors - captured["test"].vectors[:5]).abs().max()) < 1e-5


def test_the_published_evaluation_on_pope_depends_on_its_seed(tiny, prompts):
    """It samples its replies, one random stream for the whole file; greedy replies come once and for all."""
    sampled = replace(CODE_POPE_LLAVA, max_new_tokens=4)
    assert sampled.decoding() == {"max_new_tokens": 4, "do_sample": True, "seed": 0}
    first, again, other = (
        tiny.generate(prompts, **(sampled.decoding() | {"seed": seed})).token_ids for seed in (0, 0, 1)
    )
    assert first == again != other

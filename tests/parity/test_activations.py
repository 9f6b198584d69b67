"""Prompts, contexts, pooled activations, shifts, mean and subspace are the published code's."""

import pytest
import torch
from torch import Tensor

from interv import Site
from methods import MeanSteering, capture_contrasts
from methods.training import initial_weights
from tests.parity.conftest import LAYER

PARTS = ("train", "test")
TOLERANCE = 1e-5


def gap(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())


@pytest.mark.parametrize("part", PARTS)
def test_forced_answers_have_the_same_tokens(tiny, golden, pairs, part):
    for item, pair in zip(golden.facts[part], pairs[part], strict=True):
        encoded = tiny.encode([pair.positive, pair.negative])
        assert encoded.tokens(0).tolist() == item["positive_ids"]
        assert encoded.tokens(1).tolist() == item["negative_ids"]


def test_prompts_have_the_same_tokens_in_one_batch(tiny, golden, prompts):
    encoded = tiny.encode(prompts)
    assert [encoded.tokens(row).tolist() for row in range(len(prompts))] == golden.facts["prompt_ids"]


@pytest.mark.parametrize("part", PARTS)
def test_contrasts_averaged_over_the_answer(golden, captured, part):
    contrasts = captured[part]
    assert gap(contrasts.context, golden[f"{part}.context"]) < TOLERANCE
    assert gap(contrasts.positive, golden[f"{part}.pos.average"]) < TOLERANCE
    assert gap(contrasts.negative, golden[f"{part}.neg.average"]) < TOLERANCE
    shifts = {"train": "train.shift", "test": "test.p2s_shift"}
    assert gap(contrasts.vectors, golden[shifts[part]]) < TOLERANCE


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("batch_size", [1, 7])
def test_contrasts_at_the_last_token(tiny, golden, pairs, part, batch_size):
    rows = pairs[part][:21]
    bank = capture_contrasts(tiny, rows, pool="last", layers=[LAYER], batch_size=batch_size, progress=False)
    contrasts = bank.at(LAYER, LAYER)
    assert gap(contrasts.positive, golden[f"{part}.pos.last_input"][:21]) < TOLERANCE
    assert gap(contrasts.negative, golden[f"{part}.neg.last_input"][:21]) < TOLERANCE


def test_context_read_by_capture_is_that_of_the_contrasts(tiny, golden, prompts):
    context = tiny.capture(prompts, [Site(LAYER)])[Site(LAYER)]
    assert gap(context, golden["test.context"][:20]) < TOLERANCE


def test_every_layer_at_the_last_prompt_token(tiny, golden, prompts):
    """The golden states are embeddings, blocks, and the last block only after the final norm."""
    states = golden["gen.prefill_last_hidden"]
    read = tiny.capture(prompts, [Site(0, "hook_resid_pre"), *(Site(layer) for layer in range(tiny.n_layers - 1))])
    assert gap(torch.stack(list(read.values()), dim=1), states[:, :-1]) < TOLERANCE


def test_unsteered_logits(tiny, golden, prompts):
    assert gap(tiny.logits(prompts), golden["gen.prefill_last_logits"]) < TOLERANCE


def test_mean_vector_is_the_mean_shift(golden, captured):
    assert gap(MeanSteering.fit(captured["train"]).vector, golden["train.mean_shift"]) < TOLERANCE


def test_decoder_starts_in_the_subspace_of_the_centred_shifts(golden, captured):
    """Signs and order within ties are free, so the projections onto the subspace are compared."""
    ours = initial_weights(captured["train"].rows(range(55)), 32, "svd", seed=0).decoder_weight.T
    theirs = golden["l2s.svd_components_exact"]
    assert gap(ours.T @ ours, theirs.T @ theirs) < TOLERANCE
    vectors = captured["train"].rows(range(55)).vectors
    assert gap(torch.linalg.svdvals(vectors - vectors.mean(0)), golden["l2s.svd_singular_values"]) < TOLERANCE


def test_decoder_starts_where_the_published_approximation_does(golden):
    """It takes scikit-learn's randomised SVD, which is 3e-4 off the exact subspace on these shifts."""
    theirs = golden.network("init").decoder_weight
    exact = golden["l2s.svd_components_exact"]
    assert gap(theirs @ theirs.T, exact.T @ exact) < 1e-3

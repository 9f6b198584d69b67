"""The published training, step by step: 100 validation losses and the weights it leaves."""

import math

import pytest
import torch

from methods import Contrasts, CosineWeight
from methods.training import Weights, _balanced, _schedule, initial_weights, row_losses, train_network
from studies.recipes.named import CODE_POPE_LLAVA

TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def options(golden) -> dict:
    """What the recipe says of the training; the initialisation is given."""
    chosen = CODE_POPE_LLAVA.fit(validation=golden.train)
    return {name: value for name, value in chosen.items() if name not in ("hidden", "init", "validation")}


@pytest.fixture(scope="module")
def training(golden, options):
    train, validation = golden.train.rows(range(55)), golden.train.rows(range(55, 60))
    return train_network(golden.network("init"), train, validation, **options)


def furthest(ours: Weights, theirs: Weights) -> float:
    return max(float((one - other).abs().max()) for one, other in zip(ours, theirs, strict=True))


def test_all_validation_losses(golden, training):
    """The published log has four decimals."""
    theirs = golden.facts["validation_losses"]
    assert [round(loss, 4) for loss in training.validation_losses] == pytest.approx(theirs, abs=1e-9)
    assert len(theirs) == 100


def test_final_and_best_weights(golden, training):
    assert furthest(training.last, golden.network("last")) < TOLERANCE
    assert furthest(training.kept, golden.network("saved")) < TOLERANCE


def test_weights_from_our_own_activations(golden, captured, options):
    """The whole path: images and questions in, trained network out.

    Adam divides by the gradient's size, so where that is small the activations' rounding (6e-6) shows enlarged.
    """
    train, validation = captured["train"].rows(range(55)), captured["train"].rows(range(55, 60))
    ours = train_network(golden.network("init"), train, validation, **options)
    assert furthest(ours.last, golden.network("last")) < 1e-4
    moved = furthest(golden.network("init"), golden.network("last"))
    assert moved > 3e-3


def test_the_split_is_the_published_one(golden):
    train, validation, test = CODE_POPE_LLAVA.indices(len(golden.facts["train"]))
    assert (train, validation, test) == (list(range(55)), list(range(55, 60)), [])


def test_network_outputs(golden):
    network = golden.network("saved")
    assert float((network(golden["train.context"]) - golden["l2s.out_train"]).abs().max()) < TOLERANCE
    assert float((network(golden["test.context"]) - golden["l2s.out_test"]).abs().max()) < TOLERANCE


def test_one_wrong_detail_is_seen(golden, options):
    """Each choice of the recipe is needed for parity: none of these comes within the tolerance."""
    train, validation = golden.train.rows(range(55)), golden.train.rows(range(55, 60))
    wrong = [
        {"balanced": False},
        {"cosine_weight": 0.1},
        {"cosine_weight": CosineWeight(0.05)},
        {"l1_weight": 0.0},
        {"mse_weight": 0.0},
        {"schedule": "constant"},
        {"warmup_epochs": 49},
        {"epochs": 99},
    ]
    for change in wrong:
        ours = train_network(golden.network("init"), train, validation, **(options | change))
        assert furthest(ours.last, golden.network("last")) > 5 * TOLERANCE, change


@pytest.mark.parametrize(("schedule", "warmup"), [("constant", 0), ("constant", 5), ("cosine", 0), ("cosine", 7)])
def test_schedules_are_those_of_transformers(schedule, warmup):
    from transformers import get_constant_schedule_with_warmup, get_cosine_schedule_with_warmup

    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = (
        get_constant_schedule_with_warmup(optimizer, warmup)
        if schedule == "constant"
        else get_cosine_schedule_with_warmup(optimizer, warmup, 20)
    )
    ours = _schedule(schedule, warmup, 20)
    for step in range(20):
        assert ours(step) == pytest.approx(theirs.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        theirs.step()


def test_an_absent_behaviour_counts_as_zero_in_a_batch():
    loss = torch.tensor([1.0, 3.0])
    assert float(_balanced(loss, torch.tensor([0, 0]), 2)) == 1.0
    assert float(_balanced(loss, torch.tensor([0, 1]), 2)) == 2.0


def test_the_loss_is_mean_square_plus_mean_absolute_minus_weighted_cosine():
    prediction, target = torch.tensor([[3.0, 4.0]]), torch.tensor([[3.0, 0.0]])
    assert float(row_losses(prediction, target, 1.0, 1.0, 0.5)) == pytest.approx(8 + 2 - 0.5 * 0.6)


def test_the_cosine_term_grows_from_zero():
    assert [CosineWeight(0.1).at(epoch, 100) for epoch in (0, 50, 99)] == pytest.approx([0, 0.05, 0.099])


def planted(rows: int = 40, width: int = 12) -> Contrasts:
    """Vectors that the context decides, of a mean far from zero."""
    generator = torch.Generator().manual_seed(0)
    context = torch.randn(rows, width, generator=generator)
    vectors = 0.3 * context.tanh() @ torch.randn(width, width, generator=generator)
    names = tuple("ab"[i % 2] for i in range(rows))
    return Contrasts(context, vectors, torch.zeros_like(vectors), names, tuple(map(str, range(rows))), 0, 0, "planted")


def test_the_best_epoch_is_kept_and_not_the_last():
    contrasts = planted()
    start = initial_weights(contrasts, 8, "random", seed=0)
    training = train_network(start, contrasts.rows(range(20)), contrasts.rows(range(20, 40)), learning_rate=0.1)
    best = min(training.validation_losses)
    assert best < training.validation_losses[-1] - 1e-3
    validation = contrasts.rows(range(20, 40))
    kept = row_losses(training.kept(validation.context), validation.vectors, 1.0, 1.0, 0.05).mean()
    assert float(kept) == pytest.approx(best, abs=1e-6)


def test_without_validation_the_last_epoch_is_kept():
    contrasts = planted()
    training = train_network(initial_weights(contrasts, 8, "svd", seed=0), contrasts, epochs=3)
    assert furthest(training.kept, training.last) == 0
    assert training.validation_losses == ()


@pytest.mark.parametrize("init", ["svd", "dictionary", "random"])
def test_more_hidden_units_than_rows(init):
    contrasts = planted(rows=6)
    start = initial_weights(contrasts, 20, init, seed=0)
    assert start.decoder_weight.shape == (12, 20)
    assert train_network(start, contrasts, epochs=2).last.decoder_weight.isfinite().all()


@pytest.mark.filterwarnings("ignore:Objective did not converge")
def test_the_dictionary_is_the_published_one():
    """Unit atoms, positive codes, coordinate descent; scikit-learn's own object, built from the published options."""
    from sklearn.decomposition import DictionaryLearning

    contrasts = planted()
    learner = DictionaryLearning(
        8, positive_code=True, fit_algorithm="cd", transform_algorithm="lasso_cd", max_iter=5000, random_state=0
    )
    atoms = torch.from_numpy(learner.fit(contrasts.vectors.numpy()).components_).float()
    ours = initial_weights(contrasts, 8, "dictionary", seed=0).decoder_weight
    assert float((ours - atoms.T).abs().max()) < TOLERANCE
    assert ours.norm(dim=0).tolist() == pytest.approx([1.0] * 8, abs=1e-5)


def test_starting_weights_are_drawn_as_torch_draws_a_linear_layer():
    weights = initial_weights(planted(), 400, "random", seed=0)
    assert float(weights.encoder_weight.abs().max()) == pytest.approx(1 / math.sqrt(12), rel=1e-2)
    assert float(weights.decoder_weight.abs().max()) == pytest.approx(1 / math.sqrt(400), rel=1e-2)

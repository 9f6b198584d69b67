"""Networks trained side by side are those that training each by itself gives."""

import pytest
import torch

from methods import L2S, Contrasts, CosineWeight
from studies.fit.side_by_side import fit_together


def contrasts(seed: int, pairs: int = 30, width: int = 8) -> Contrasts:
    generator = torch.Generator().manual_seed(seed)
    context, positive, negative = (torch.randn(pairs, width, generator=generator) for _ in range(3))
    return Contrasts(context, positive, negative, ("a",) * pairs, tuple(map(str, range(pairs))), 1, seed, "model")


OPTIONS = (
    {},
    {"activation": "relu", "init": "random", "hidden": 5},
    {"cosine_weight": CosineWeight(), "l1_weight": 0.0, "batch_size": 7, "learning_rate": 1e-2},
    {"cosine_weight": 0.0, "mse_weight": 0.5},
    {"schedule": "cosine", "warmup_epochs": 2},  # trained one at a time
)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_trained_together_is_trained_alone(options):
    trains, seeds = [contrasts(seed) for seed in range(3)], [4, 4, 9]
    together = fit_together(trains, seeds, epochs=5, **options)
    for steerer, train, seed in zip(together, trains, seeds, strict=True):
        alone = L2S.fit(train, seed=seed, epochs=5, **options)
        assert (steerer.reads, steerer.writes, steerer.fingerprint) == (alone.reads, alone.writes, alone.fingerprint)
        torch.testing.assert_close(steerer.predict(train.context), alone.predict(train.context), rtol=1e-4, atol=1e-5)


def test_groups_and_sizes_do_not_matter(monkeypatch):
    trains = [contrasts(0), contrasts(1), contrasts(2, pairs=20)]
    mixed = fit_together(trains, [0, 1, 2], epochs=3)
    monkeypatch.setattr("studies.fit.side_by_side.NUMBERS", 1)
    for one, other in zip(mixed, fit_together(trains, [0, 1, 2], epochs=3), strict=True):
        torch.testing.assert_close(one.encoder_weight, other.encoder_weight)


def test_fits_leave_the_global_random_state_alone():
    before = torch.get_rng_state()
    fit_together([contrasts(0)], [3], epochs=2)
    assert torch.equal(before, torch.get_rng_state())

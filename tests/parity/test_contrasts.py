"""What the published code does to contrasts before it trains: equal norms, and zeros for selective steering."""

from dataclasses import replace

import pytest
import torch

from methods import L2S, ContrastBank, Contrasts, MeanSteering


@pytest.fixture
def contrasts() -> Contrasts:
    """Rows in three groups of other sizes and lengths, and one more behaviour that is in no group."""
    generator = torch.Generator().manual_seed(0)
    names = ("harmful",) * 12 + ("legal",) * 3 + ("financial",) * 4 + ("health",) * 2 + ("government",) * 3
    length = {"harmful": 1.0, "legal": 3.0, "financial": 0.5, "health": 7.0, "government": 2.0}
    vectors = torch.randn(len(names), 16, generator=generator) * torch.tensor([length[name] for name in names])[:, None]
    context = torch.randn(len(names), 16, generator=generator)
    negative = torch.randn(len(names), 16, generator=generator)
    return Contrasts(context, negative + vectors, negative, names, tuple(map(str, range(len(names)))), 1, 2, "model")


GROUPS = (("harmful",), ("legal", "financial"), ("health",))


def test_equal_norms_are_the_published_factors(contrasts):
    """The published code scales slices of the file: c = mean norm of the first slice over the mean norm of this one."""
    shift = contrasts.positive - contrasts.negative
    norm = shift.norm(dim=1)
    expected = shift.clone()
    expected[12:19] *= norm[:12].mean() / norm[12:19].mean()
    expected[19:21] *= norm[:12].mean() / norm[19:21].mean()
    assert torch.allclose(contrasts.equalised(GROUPS).vectors, expected, atol=1e-6)


def test_equal_norms_keep_directions_activations_and_what_is_in_no_group(contrasts):
    equal = contrasts.equalised(GROUPS)
    assert torch.equal(equal.vectors[21:], contrasts.vectors[21:])
    assert torch.equal(equal.positive, contrasts.positive)
    cosine = torch.nn.functional.cosine_similarity(equal.vectors, contrasts.vectors)
    assert cosine.min() > 1 - 1e-6
    again = equal.equalised(GROUPS).vectors
    assert torch.allclose(again, equal.vectors, rtol=1e-5)


def test_equal_norms_follow_rows_and_leave_mean_steering_to_the_caller(contrasts):
    rows = [20, 0, 15]
    equal = contrasts.equalised(GROUPS)
    assert torch.equal(equal.rows(rows).vectors, equal.vectors[rows])
    mean = MeanSteering.fit(contrasts).vector
    assert float((MeanSteering.fit(equal).vector - mean).abs().max()) > 1e-3


def test_no_groups_change_nothing_and_an_empty_first_group_is_refused(contrasts):
    assert contrasts.equalised(()) is contrasts
    with pytest.raises(ValueError, match="No row of benign"):
        contrasts.equalised((("benign",), ("legal",)))


def test_selective_steering_learns_zero_where_nothing_may_be_added():
    """ReLU, as in the paper's appendix: at zero activation the network adds exactly nothing."""
    generator = torch.Generator().manual_seed(0)
    sign = torch.tensor([1.0, -1.0]).repeat(40)
    context = torch.randn(80, 12, generator=generator) * 0.3
    context[:, 0] += 3 * sign
    vector = torch.randn(12, generator=generator)
    positive = vector.expand(80, 12) + 0.05 * torch.randn(80, 12, generator=generator)
    names = tuple("unsafe" if value > 0 else "safe" for value in sign)
    train = Contrasts(context, positive, torch.zeros(80, 12), names, tuple(map(str, range(80))), 1, 1, "model")
    silenced = train.silenced(("safe",))
    assert not silenced.vectors[1::2].any()
    assert torch.equal(silenced.vectors[::2], train.vectors[::2])
    steerer = L2S.fit(silenced, activation="relu", hidden=16, learning_rate=1e-2, epochs=200)
    norms = steerer.predict(context).norm(dim=1)
    assert float(norms[1::2].mean()) < 0.05 * float(norms[::2].mean())
    assert float((steerer.predict(context)[::2].mean(0) - vector).abs().max()) < 0.2


def test_silenced_rows_stay_silent_when_norms_are_made_equal(contrasts):
    silent = contrasts.silenced(("government",)).equalised(GROUPS)
    assert not silent.vectors[21:].any()


def test_a_saved_bank_gives_the_same_contrasts(tmp_path, contrasts):
    layers = [value[:, None] for value in (contrasts.context, contrasts.positive, contrasts.negative)]
    bank = ContrastBank(*layers, None, contrasts.behavior, contrasts.id, (2,), "model")
    bank.save(tmp_path)
    again = ContrastBank.load(tmp_path).at(2, 2)
    assert torch.equal(again.equalised(GROUPS).vectors, replace(contrasts, reads=2).equalised(GROUPS).vectors)

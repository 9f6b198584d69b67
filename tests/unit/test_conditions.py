"""What CAST's conditions and vectors are made of: sides, thresholds and directions, against plain references."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from interv import Site
from methods import CAST, Condition, Query, Read, Rule
from methods.conditions import Fires, best_point, pairwise_direction
from tests.property.reference import close
from tests.unit.test_cast import told_apart


def f1(met: torch.Tensor, wanted: torch.Tensor) -> float:
    return 2 * int((met & wanted).sum()) / max(1, int(met.sum() + wanted.sum()))


def test_best_point_is_exhaustive() -> None:
    """Every side and threshold by brute force."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        values, wanted = torch.rand(9, generator=generator), torch.rand(9, generator=generator) > 0.5
        side, threshold, score = best_point(values, wanted)
        met = values > threshold if side == "above" else values < threshold
        tried = [f1(own, wanted) for edge in (-1.0, *values) for own in (values > edge, values <= edge)]
        assert score == pytest.approx(max(tried))
        assert score == pytest.approx(f1(met, wanted))


def test_behaviour_vectors_are_the_first_singular_ones() -> None:
    """Of random contrasts, each behaviour by itself: numpy's, uncentred, turned to most positives, and their length."""
    generator = torch.Generator().manual_seed(5)
    train = told_apart()
    train = replace(train, positive=train.negative + torch.randn(40, 12, generator=generator))
    for unit in (True, False):
        cast = CAST.fit(train, unit=unit)
        for name, vector in zip(cast.behaviors, cast.vectors[:, 0], strict=True):
            own = train.vectors[[behavior == name for behavior in train.behavior]].double().numpy()
            direction = np.linalg.svd(own)[2][0]
            direction *= 1 if (own @ direction > 0).mean() >= 0.5 else -1
            length = 1.0 if unit else np.linalg.norm(own, axis=1).mean()
            close(vector.double(), torch.from_numpy(direction * length))


def test_conditions_of_one_name_are_met_where_one_is() -> None:
    """At several blocks, each with its own state, side and threshold."""
    sides: tuple[tuple[int, Fires, float], ...] = ((0, "above", 0.5), (2, "below", -0.5))
    cast = CAST(
        0,
        1,
        "",
        directions=torch.eye(4)[:1].expand(2, -1),
        vectors=torch.ones(1, 1, 4),
        conditions=tuple(Condition("c", block, "last_prompt", "cosine", fires, at) for block, fires, at in sides),
        behaviors=("b",),
        blocks=(1,),
        rules=(Rule.parse("if c then b"),),
    )
    low, high = torch.eye(4)[[0, 0, 1, 1]], torch.stack([-torch.eye(4)[0], torch.eye(4)[0]] * 2)
    query = Query(low, seen={Read(Site(0)): low, Read(Site(2)): high})
    assert cast.gates(query)[:, 0].tolist() == [True, True, True, False]


def test_direction_is_not_centred_away() -> None:
    """A shift that all pairs share is the direction; centring the differences would lose it."""
    generator = torch.Generator().manual_seed(0)
    shift = torch.randn(16, generator=generator)
    positive = 3 * shift + 0.5 * torch.randn(50, 16, generator=generator)
    assert torch.cosine_similarity(pairwise_direction(positive, torch.zeros(50, 16)), shift, dim=0) > 0.98

"""The oracle's vectors as points: how alike within and between behaviours, and their plane of most variance."""

from collections.abc import Sequence
from itertools import combinations_with_replacement

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from studies.measure.bootstrap import interval, weights_of
from studies.measure.metric import Record


def alike(
    vectors: Float[Tensor, "pairs d_model"],
    behavior: Sequence[str],
    units: Sequence[str] | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> list[Record]:
    """Mean cosine of two inputs' vectors, for each pair of behaviours: {one, other, value, low, high, n, units}.

    `units` [pairs] are labels: inputs of one unit (about one image) are drawn together and not compared with each
    other; each is one by itself by default. So an input is not compared with itself, also not where a resample drew it
    several times. A behaviour of one unit has no value within. Source of the measure: arXiv:2508.12815, Fig. 10.
    """
    directions = torch.nn.functional.normalize(vectors.double(), dim=1).numpy()
    names, unit = np.unique([*range(len(vectors))] if units is None else units, return_inverse=True)
    parts = {}
    for name in sorted(set(behavior)):
        own = [index for index, other in enumerate(behavior) if other == name]
        sums, counts = np.zeros((len(names), vectors.shape[1])), np.zeros(len(names))
        np.add.at(sums, unit[own], directions[own])
        np.add.at(counts, unit[own], 1)
        parts[name] = sums, counts
    drawn = np.concatenate([np.ones((1, len(names))), weights_of(len(names), resamples, seed)])  # the first: all once
    records = []
    for one, other in combinations_with_replacement(parts, 2):
        value, *draws = _mean_cosine(*parts[one], *parts[other], drawn)
        low, high = interval(np.array(draws))
        together = parts[one][1] + (parts[other][1] if one != other else 0)
        sizes = {"n": int(together.sum()), "units": int((together > 0).sum())}
        records.append({"one": one, "other": other, "value": float(value), "low": low, "high": high, **sizes})
    return records


def _mean_cosine(
    ours: Float[np.ndarray, "units d_model"],
    our_counts: Float[np.ndarray, " units"],
    theirs: Float[np.ndarray, "units d_model"],
    their_counts: Float[np.ndarray, " units"],
    weights: Float[np.ndarray, "resamples units"],
) -> Float[np.ndarray, " resamples"]:
    """The weighted mean cosine from the units' sums of directions: sum_ij w_i w_j u_i.t_j = (sum w u).(sum w t).

    What a unit has with itself is taken off; with its copies in a resample it would count w_i^2 times.
    """
    total = (weights @ ours * (weights @ theirs)).sum(axis=1) - weights**2 @ (ours * theirs).sum(axis=1)
    count = (weights @ our_counts) * (weights @ their_counts) - weights**2 @ (our_counts * their_counts)
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def plane(vectors: Float[Tensor, "pairs d_model"]) -> tuple[Float[Tensor, "d_model 2"], Tensor, tuple[float, float]]:
    """The two directions of most variance, the mean, and the shares of the variance along the two (PCA)."""
    centred = vectors.double() - vectors.double().mean(dim=0)
    _, sizes, directions = torch.linalg.svd(centred, full_matrices=False)
    shares = sizes.square() / sizes.square().sum()
    return directions[:2].T, vectors.double().mean(dim=0), (float(shares[0]), float(shares[1]))


def on_plane(
    vectors: Float[Tensor, "pairs d_model"], directions: Float[Tensor, "d_model 2"], mean: Tensor
) -> Float[np.ndarray, "pairs 2"]:
    """Coordinates on the plane."""
    return ((vectors.double() - mean) @ directions).numpy()

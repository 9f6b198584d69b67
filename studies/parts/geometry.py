"""The oracle's vectors as points: how alike within and between behaviours, and their plane of most variance."""

from collections.abc import Sequence
from itertools import combinations_with_replacement

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from studies.metrics import Record
from studies.parts.bootstrap import interval


def alike(
    vectors: Float[Tensor, "pairs d_model"], behavior: Sequence[str], *, resamples: int = 1000, seed: int = 0
) -> list[Record]:
    """Mean cosine of two inputs' vectors, for each pair of behaviours: {one, other, value, low, high, n}.

    Within a behaviour an input is not compared with itself, also not where a resample drew it several times. A
    behaviour of one input has no value within. Source of the measure: arXiv:2508.12815, Fig. 10.
    """
    units = torch.nn.functional.normalize(vectors.double(), dim=1).numpy()
    names = sorted(set(behavior))
    generator = np.random.default_rng(seed)
    parts = {name: units[[index for index, own in enumerate(behavior) if own == name]] for name in names}
    drawn = {
        name: np.stack(
            [np.bincount(generator.integers(0, len(part), len(part)), minlength=len(part)) for _ in range(resamples)]
        )
        for name, part in parts.items()
    }
    records = []
    for one, other in combinations_with_replacement(names, 2):
        ones = [np.ones((1, len(parts[name]))) for name in (one, other)]
        whole = _mean_cosine(parts[one], parts[other], ones[0], ones[1], one == other)
        draws = _mean_cosine(parts[one], parts[other], drawn[one], drawn[other], one == other)
        low, high = interval(draws)
        n = len(parts[one]) if one == other else len(parts[one]) + len(parts[other])
        records.append({"one": one, "other": other, "value": float(whole[0]), "low": low, "high": high, "n": n})
    return records


def _mean_cosine(
    ours: np.ndarray, theirs: np.ndarray, weights: np.ndarray, other_weights: np.ndarray, same: bool
) -> Float[np.ndarray, " resamples"]:
    """The weighted mean cosine from sums of unit vectors: sum_ij w_i v_j u_i.t_j = (sum w u).(sum v t)."""
    total = (weights @ ours * (other_weights @ theirs)).sum(axis=1)
    count = weights.sum(axis=1) * other_weights.sum(axis=1)
    if same:
        # An input with itself has cosine 1; with its copies in a resample it would count w_i^2 times.
        itself = (weights**2 * (ours**2).sum(axis=1)).sum(axis=1)
        total, count = total - itself, count - (weights**2).sum(axis=1)
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

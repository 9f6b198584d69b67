"""Directions that many contrast vectors are made of, with which a network's decoder may begin."""

import warnings

import torch
from jaxtyping import Float
from torch import Tensor

from methods.contrasts.sharded import ShardedContrasts


def principal_directions(
    train: ShardedContrasts, count: int, seed: int, *, passes: int = 4, extra: int = 16
) -> Float[Tensor, "count d_model"]:
    """The leading right singular vectors of the centred contrast vectors, in `passes + 2` readings of the shards.

    Randomised subspace iteration (arXiv:0909.4061, Alg. 4.4) on the vectors' covariance, which is never formed: what is
    held is a batch and `count + extra` directions.
    """
    generator = torch.Generator().manual_seed(seed)
    mean = train.mean_vector
    found = torch.linalg.qr(torch.randn(train.width, min(count + extra, train.width), generator=generator)).Q
    for _ in range(passes):
        images = sum((vectors - mean).T @ ((vectors - mean) @ found) for _, vectors in train.batches())
        found = torch.linalg.qr(images).Q
    inside = sum(((vectors - mean) @ found).T @ ((vectors - mean) @ found) for _, vectors in train.batches())
    return (found @ torch.linalg.eigh(inside).eigenvectors.flip(1)).T[:count]


def dictionary(vectors: Tensor, hidden: int, seed: int) -> Float[Tensor, "atoms d_model"]:
    """Unit atoms of a sparse dictionary with positive codes."""
    try:
        from sklearn.decomposition import DictionaryLearning
        from sklearn.exceptions import ConvergenceWarning
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "init='dictionary' needs scikit-learn: pip install 'interv[dictionary]', or take init='svd'."
        ) from error
    learner = DictionaryLearning(
        min(hidden, len(vectors)),
        positive_code=True,
        fit_algorithm="cd",
        transform_algorithm="lasso_cd",
        max_iter=5000,
        random_state=seed,
    )
    with warnings.catch_warnings():
        # Its tolerance lies below float32's rounding, which the published code computes in too.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return torch.from_numpy(learner.fit(vectors.numpy()).components_).float()

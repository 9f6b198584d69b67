"""How near a method's vectors come to the oracle's: cosine and squared error, without decoding a reply."""

from collections.abc import Hashable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interv import Add
from methods import L2S, Contrasts, Query
from methods.steerer import Fitted
from studies.measure.bootstrap import interval, resampled_over_seeds
from studies.measure.metric import Record


def agreement(steerer: Fitted, contrasts: Contrasts) -> dict[str, Float[np.ndarray, " pairs"]]:
    """ "cosine" and "mse" of what the method adds at strength 1 against each pair's own vector.

    The mean square is over the vector's numbers, as in the training loss; the paper's Fig. 12 draws both. The cosine of
    a vector of length zero is 0.
    """
    predicted, oracle = added(steerer, contrasts), contrasts.vectors.float()
    cosine = torch.nn.functional.cosine_similarity(predicted, oracle, dim=1)
    return {"cosine": cosine.numpy(), "mse": (predicted - oracle).square().mean(dim=1).numpy()}


def added(steerer: Fitted, contrasts: Contrasts) -> Float[Tensor, "pairs d_model"]:
    """The vector that the method adds to each pair's input at strength 1; zeros where it adds none."""
    ops = steerer.ops(Query(contrasts.context.float(), contrasts.vectors.float()), 1.0)
    total = torch.zeros_like(contrasts.vectors.float())
    return sum((op.vector.float().expand_as(total) for op in ops if isinstance(op, Add)), total)


def dead(network: L2S, contexts: Float[Tensor, "pairs d_model"]) -> float:
    """The share of hidden units that no context switches on: under ReLU they add nothing, and learn nothing more."""
    before = contexts @ network.encoder_weight.T.float() + network.encoder_bias.float()
    return float((before <= 0).all(dim=0).float().mean())


def averaged(
    values: Float[np.ndarray, "*seeds examples"] | Sequence[np.ndarray],
    units: Sequence[str] | None = None,
    *,
    resamples: int = 2000,
) -> Record:
    """The mean over examples with its 95% bootstrap interval: value, low, high, n, units, seeds.

    `units` [examples] are labels: examples of one unit are drawn together; each is one by itself by default. Several
    seeds are several rows of values, one a seed, on the same examples. Units and seeds are then both drawn anew in each
    resample, so that the interval covers another training run as well as other inputs.
    """
    table = np.atleast_2d(np.asarray(values, dtype=np.float64))
    seeds, examples = table.shape
    place: dict[Hashable, int] = {}
    labels = np.array([place.setdefault(unit, len(place)) for unit in (range(examples) if units is None else units)])
    sums = resampled_over_seeds(np.stack([table, np.ones_like(table)], axis=-1), labels, resamples, 0)
    low, high = interval(sums[:, 0] / sums[:, 1])
    counts = {"n": examples, "units": len(place), "seeds": seeds}
    return {"value": float(table.mean()), "low": low, "high": high, **counts}

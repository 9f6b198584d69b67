"""Linear probes of many heads at once."""

import torch
from jaxtyping import Float
from torch import Tensor

STEPS, RIDGE = 20, 1e-2


def probe_accuracy(
    positive: Float[Tensor, "own *heads d"],
    negative: Float[Tensor, "own *heads d"],
    held_out_positive: Float[Tensor, "other *heads d"],
    held_out_negative: Float[Tensor, "other *heads d"],
) -> Float[Tensor, "*heads"]:
    """By head, how often a logistic probe that was fitted on the first two tells the second two apart.

    Features are standardised and the weights lightly penalised; Newton's method, in float64.
    """
    features, labels = _rows(positive, negative)
    mean, size = features.mean(dim=1, keepdim=True), features.std(dim=1, keepdim=True).clamp_min(1e-9)
    design = _with_constant((features - mean) / size)
    weights = design.new_zeros(len(design), design.shape[2], 1)
    penalty = RIDGE * len(labels) * torch.eye(design.shape[2], dtype=design.dtype)
    for _ in range(STEPS):
        chance = torch.sigmoid(design @ weights)
        gradient = design.mT @ (chance - labels[:, None]) + penalty @ weights
        curvature = design.mT @ (chance * (1 - chance) * design) + penalty
        weights = weights - torch.linalg.solve(curvature, gradient)
    unseen, truth = _rows(held_out_positive, held_out_negative)
    said = (_with_constant((unseen - mean) / size) @ weights).squeeze(-1) > 0
    return (said == truth.bool()).double().mean(dim=1).float().view(positive.shape[1:-1])


def _rows(positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
    """[heads, rows, d], and 1 or 0 by row."""
    both = torch.cat([positive, negative]).double().flatten(1, -2).transpose(0, 1)
    labels = torch.cat([torch.ones(len(positive)), torch.zeros(len(negative))]).double()
    return both, labels


def _with_constant(features: Tensor) -> Tensor:
    return torch.cat([features, torch.ones_like(features[..., :1])], dim=-1)

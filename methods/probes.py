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
    weights = _newton(_with_constant((features - mean) / size), labels, torch.ones_like(labels))
    unseen, truth = _rows(held_out_positive, held_out_negative)
    said = (_with_constant((unseen - mean) / size) @ weights).squeeze(-1) > 0
    return (said == truth.bool()).double().mean(dim=1).float().view(positive.shape[1:-1])


def probe(
    positive: Float[Tensor, "own d"], negative: Float[Tensor, "other d"]
) -> tuple[Float[Tensor, " d"], Float[Tensor, ""]]:
    """Weights and bias of a logistic probe, above zero on the first; both kinds count alike, however many there are."""
    features, labels = _rows(positive[:, None], negative[:, None])
    mean, size = features.mean(dim=1, keepdim=True), features.std(dim=1, keepdim=True).clamp_min(1e-9)
    share = torch.where(labels.bool(), 0.5 / labels.mean(), 0.5 / (1 - labels.mean()))
    found = _newton(_with_constant((features - mean) / size), labels, share)[0, :, 0]
    weight = found[:-1] / size[0, 0]
    return weight.float(), (found[-1] - weight @ mean[0, 0]).float()


def _newton(design: Float[Tensor, "heads rows d"], labels: Tensor, share: Tensor) -> Float[Tensor, "heads d 1"]:
    """Weights of the least penalised logistic loss, each row counted by its share."""
    weights = design.new_zeros(len(design), design.shape[2], 1)
    penalty = RIDGE * len(labels) * torch.eye(design.shape[2], dtype=design.dtype)
    for _ in range(STEPS):
        chance = torch.sigmoid(design @ weights)
        gradient = design.mT @ (share[:, None] * (chance - labels[:, None])) + penalty @ weights
        curvature = design.mT @ (share[:, None] * chance * (1 - chance) * design) + penalty
        weights = weights - torch.linalg.solve(curvature, gradient)
    return weights


def _rows(positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
    """[heads, rows, d], and 1 or 0 by row."""
    both = torch.cat([positive, negative]).double().flatten(1, -2).transpose(0, 1)
    labels = torch.cat([torch.ones(len(positive)), torch.zeros(len(negative))]).double()
    return both, labels


def _with_constant(features: Tensor) -> Tensor:
    return torch.cat([features, torch.ones_like(features[..., :1])], dim=-1)

"""Many networks of L2S trained side by side: a sweep's hundred fits in the time of a few."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cosine_similarity

from methods import L2S, Contrasts, CosineWeight
from methods.training import Weights, initial_weights

NUMBERS = 200_000_000  # of training data that one group may hold, which is 0.8 GB in float32
# What is trained here; a fit that asks for anything else is made by itself.
KNOWN = {"hidden", "activation", "init", "mse_weight", "l1_weight", "cosine_weight", "learning_rate", "epochs"}
KNOWN |= {"batch_size", "seed"}
PLAIN = {"validation": None, "balanced": False, "schedule": "constant", "warmup_epochs": 0}


def fit_together(trains: Sequence[Contrasts], seeds: Sequence[int], **options: Any) -> list[L2S]:
    """`[L2S.fit(train, seed=seed, **options) for train, seed in zip(trains, seeds)]`, up to rounding.

    The networks share nothing: their losses are added, so that each has the gradient that it would have alone, and
    Adam works number by number. Batches are drawn as `train_network` draws them. Options that change the training's
    course (a validation set, balanced losses, a schedule), and contrasts of several sizes, are trained one at a time.
    """
    odd = {name for name, value in options.items() if name not in KNOWN and PLAIN.get(name, math.nan) != value}
    if odd or len({train.context.shape for train in trains}) != 1:
        return [L2S.fit(train, **options | {"seed": seed}) for train, seed in zip(trains, seeds, strict=True)]
    known = {name: value for name, value in options.items() if name in KNOWN - {"seed"}}
    size = max(1, NUMBERS // (2 * trains[0].context.numel()))
    fitted: list[L2S] = []
    for start in range(0, len(trains), size):
        fitted += _group(trains[start : start + size], seeds[start : start + size], **known)
    return fitted


def _group(
    trains: Sequence[Contrasts],
    seeds: Sequence[int],
    *,
    hidden: int = 100,
    activation: str = "tanh",
    init: str = "svd",
    mse_weight: float = 1.0,
    l1_weight: float = 1.0,
    cosine_weight: CosineWeight | float = 0.1,
    learning_rate: float | None = None,
    epochs: int = 100,
    batch_size: int = 64,
) -> list[L2S]:
    starts = [initial_weights(train, hidden, init, seed) for train, seed in zip(trains, seeds, strict=True)]  # type: ignore[arg-type]
    device, width = trains[0].context.device, trains[0].context.shape[1]
    weights = [torch.stack(part).to(device).requires_grad_() for part in zip(*starts, strict=True)]
    context = torch.stack([train.context.float() for train in trains])
    target = torch.stack([train.vectors.float() for train in trains])
    optimizer = torch.optim.Adam(weights, lr=0.4 / width if learning_rate is None else learning_rate)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    network = torch.arange(len(trains), device=device)[:, None]
    for epoch in range(epochs):
        w = cosine_weight.at(epoch, epochs) if isinstance(cosine_weight, CosineWeight) else cosine_weight
        order = torch.stack([torch.randperm(context.shape[1], generator=generator) for generator in generators])
        for rows in order.to(device).split(batch_size, dim=1):
            prediction = _predicted(weights, context[network, rows], activation)
            losses = _losses(prediction, target[network, rows], mse_weight, l1_weight, w)
            optimizer.zero_grad()
            losses.mean(dim=1).sum().backward()
            optimizer.step()
    return [
        L2S(train.reads, train.writes, train.fingerprint, *Weights(*parts), activation)  # type: ignore[arg-type]
        for train, *parts in zip(trains, *(part.detach().unbind() for part in weights), strict=True)
    ]


def _predicted(
    weights: Sequence[Tensor], context: Float[Tensor, "networks rows d_model"], activation: str
) -> Float[Tensor, "networks rows d_model"]:
    encoder, bias, decoder = weights
    hidden = torch.baddbmm(bias[:, None], context, encoder.transpose(1, 2))
    return torch.bmm(torch.tanh(hidden) if activation == "tanh" else torch.relu(hidden), decoder.transpose(1, 2))


def _losses(prediction: Tensor, target: Tensor, mse: float, l1: float, w: float) -> Float[Tensor, "networks rows"]:
    """As in `methods.training`: mean square + mean absolute error - w * cosine."""
    error = prediction - target
    loss = mse * error.square().mean(dim=-1) + l1 * error.abs().mean(dim=-1)
    return loss - w * cosine_similarity(prediction, target, dim=-1) if w else loss

"""Many networks of L2S trained side by side: a sweep's hundred fits in the time of a few."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from methods import L2S, Contrasts, CosineWeight
from methods.l2s import DEFAULTS
from methods.training import Weights, initial_weights, row_losses

NUMBERS = 200_000_000  # of training data that one group may hold, which is 0.8 GB in float32
# What is trained here; a fit that asks for anything else is made by itself.
KNOWN = {"hidden", "activation", "init", "mse_weight", "l1_weight", "cosine_weight", "learning_rate", "epochs"}
KNOWN |= {"batch_size", "seed"}


def fit_together(trains: Sequence[Contrasts], seeds: Sequence[int], **options: Any) -> list[L2S]:
    """`[L2S.fit(train, seed=seed, **options) for train, seed in zip(trains, seeds)]`, up to rounding.

    The networks share nothing: their losses are added, so that each has the gradient that it would have alone, and
    Adam works number by number. Batches are drawn as `train_network` draws them. Options that change the training's
    course (a validation set, balanced losses, a schedule), and contrasts of several sizes, are trained one at a time.
    """
    odd = [name for name, value in options.items() if name not in KNOWN and value != DEFAULTS.get(name, ...)]
    if odd or len({train.context.shape for train in trains}) != 1:
        return [L2S.fit(train, **options | {"seed": seed}) for train, seed in zip(trains, seeds, strict=True)]
    known = {name: options.get(name, DEFAULTS[name]) for name in KNOWN - {"seed"}}
    size = max(1, NUMBERS // (2 * trains[0].context.numel()))
    fitted: list[L2S] = []
    for start in range(0, len(trains), size):
        fitted += _group(trains[start : start + size], seeds[start : start + size], **known)
    return fitted


def _group(
    trains: Sequence[Contrasts],
    seeds: Sequence[int],
    *,
    hidden: int,
    activation: str,
    init: str,
    mse_weight: float,
    l1_weight: float,
    cosine_weight: CosineWeight | float,
    learning_rate: float | None,
    epochs: int,
    batch_size: int,
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
            losses = row_losses(prediction.flatten(0, 1), target[network, rows].flatten(0, 1), mse_weight, l1_weight, w)
            optimizer.zero_grad()
            losses.unflatten(0, (len(trains), -1)).mean(dim=1).sum().backward()
            optimizer.step()
    return [
        L2S(train.reads, train.writes, train.fingerprint, *Weights(*parts), activation)  # type: ignore[arg-type]
        for train, *parts in zip(trains, *(part.detach().unbind() for part in weights), strict=True)
    ]


def _predicted(
    weights: Sequence[Tensor], context: Float[Tensor, "networks rows d_model"], activation: str
) -> Float[Tensor, "networks rows d_model"]:
    """As `Weights` does for one network; `linear` takes no batch of weights."""
    encoder, bias, decoder = weights
    hidden = torch.baddbmm(bias[:, None], context, encoder.transpose(1, 2))
    return torch.bmm(torch.tanh(hidden) if activation == "tanh" else torch.relu(hidden), decoder.transpose(1, 2))

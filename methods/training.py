"""The training of L2S's network, with every choice that the paper and the published code make."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cosine_similarity, linear

from methods.bases import dictionary, principal_directions
from methods.contrasts.contrasts import Contrasts
from methods.contrasts.sharded import AnyContrasts, ShardedContrasts

Init = Literal["svd", "dictionary", "random"]
Activation = Literal["tanh", "relu"]
Schedule = Literal["constant", "cosine"]


class Weights(NamedTuple):
    """encoder [hidden, d_model] with bias [hidden], decoder [d_model, hidden] without."""

    encoder_weight: Tensor
    encoder_bias: Tensor
    decoder_weight: Tensor

    def __call__(self, context: Tensor, activation: Activation = "tanh") -> Tensor:
        hidden = linear(context, self.encoder_weight, self.encoder_bias)
        hidden = torch.tanh(hidden) if activation == "tanh" else torch.relu(hidden)
        return linear(hidden, self.decoder_weight)

    def predicted(self, context: Tensor, activation: Activation, method: str) -> Tensor:
        """What the network gives for contexts, on their device. Raises ValueError for contexts of another width."""
        width = self.encoder_weight.shape[1]
        if context.shape[-1] != width:
            raise ValueError(
                f"The contexts have width {context.shape[-1]}; this {method} was trained on {width}. "
                "Read them from the model that it was trained for."
            )
        return self.to(context.device)(context.float(), activation)

    def to(self, device: torch.device | str) -> "Weights":
        return Weights(*(tensor.to(device) for tensor in self))

    def detached(self) -> "Weights":
        return Weights(*(tensor.detach().clone() for tensor in self))


@dataclass(frozen=True)
class CosineWeight:
    """The weight of the cosine term, growing linearly over the epochs from zero: `final * epoch / epochs`."""

    final: float = 0.1

    def at(self, epoch: int, epochs: int) -> float:
        return self.final * epoch / epochs


@dataclass(frozen=True, eq=False)
class Training:
    """What a training leaves: the weights that were kept, the last ones, and the validation loss of every epoch."""

    kept: Weights
    last: Weights
    validation_losses: tuple[float, ...]


def check_choice(value: str, choices: Any, noun: str) -> None:
    """Raise ValueError where a value is none of a Literal's."""
    if value not in get_args(choices):
        raise ValueError(f"{value!r} is no {noun}; there are {', '.join(get_args(choices))}.")


def initial_weights(train: AnyContrasts, hidden: int, init: Init, seed: int) -> Weights:
    """The encoder as torch initialises a linear layer; the decoder's columns from the training vectors.

    "svd": right singular vectors of the centred vectors (published code, POPE); "dictionary": unit atoms of a sparse
    dictionary with positive codes (published code, MM-SafetyBench); "random": as the encoder. Where there are fewer
    training rows than hidden units, the columns that the data cannot give are random.

    Of contrasts in shards the singular vectors come from a randomised iteration over the shards.
    """
    generator = torch.Generator().manual_seed(seed)
    width = train.width

    def uniform(*shape: int, fan_in: int) -> Tensor:
        return (torch.rand(shape, generator=generator) * 2 - 1) / math.sqrt(fan_in)

    encoder_weight, encoder_bias = uniform(hidden, width, fan_in=width), uniform(hidden, fan_in=width)
    decoder_weight = uniform(width, hidden, fan_in=hidden)
    check_choice(init, Init, "initialisation")
    if init == "random":
        return Weights(encoder_weight, encoder_bias, decoder_weight)
    if isinstance(train, Contrasts):
        vectors = train.vectors.float().cpu()
        if init == "svd":
            basis = torch.linalg.svd(vectors - vectors.mean(dim=0), full_matrices=False).Vh[:hidden]
        else:
            basis = dictionary(vectors, hidden, seed)
    elif init == "svd":
        basis = principal_directions(train, min(hidden, len(train)), seed)
    else:
        raise ValueError("init='dictionary' needs every vector at once; pass train.loaded(), or take init='svd'.")
    decoder_weight[:, : len(basis)] = basis.T
    return Weights(encoder_weight, encoder_bias, decoder_weight)


def train_network(
    start: Weights,
    train: AnyContrasts,
    validation: AnyContrasts | None = None,
    *,
    others: Sequence[AnyContrasts] = (),
    validation_others: Sequence[AnyContrasts] = (),
    activation: Activation = "tanh",
    mse_weight: float = 1.0,
    l1_weight: float = 1.0,
    cosine_weight: CosineWeight | float = 0.1,
    balanced: bool = False,
    learning_rate: float = 1e-4,
    schedule: Schedule = "constant",
    warmup_epochs: int = 0,
    epochs: int = 100,
    batch_size: int = 64,
    seed: int = 0,
    device: torch.device | str | None = None,
) -> Training:
    """Minimise mean square + mean absolute error - w * cosine with Adam (arXiv:2508.12815, App. B.1).

    `schedule="cosine"` rises over `warmup_epochs` and then falls as half a cosine, batch by batch. With `validation`
    the weights of the epoch with the lowest MSE + L1 - 0.05 * cosine on it are kept (published code, POPE).

    `others` are contrasts of the same pairs at further blocks: the decoder then gives one block's vector behind the
    other's, and the loss is the mean over blocks.

    Contrasts in memory are trained on where they lie, those in shards on the CPU, unless a `device` is given; of those
    in shards no more than a batch is in memory.
    """
    check_choice(activation, Activation, "activation")
    check_choice(schedule, Schedule, "schedule")
    device = torch.device(device or (train.context.device if isinstance(train, Contrasts) else "cpu"))
    readers = [_reader(one, device) for one in (train, *others)]
    judged = None if validation is None else (validation, *validation_others)
    behaviors = sorted(set(train.behavior))
    group = torch.tensor([behaviors.index(name) for name in train.behavior], device=device)
    generator = torch.Generator().manual_seed(seed)
    weights = Weights(*(tensor.to(device).clone().requires_grad_() for tensor in start))
    optimizer = torch.optim.Adam(list(weights), lr=learning_rate)
    steps = math.ceil(len(train) / batch_size)
    scale = _schedule(schedule, warmup_epochs * steps, epochs * steps)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, scale)
    losses: list[float] = []
    kept = weights.detached()
    for epoch in range(epochs):
        w = cosine_weight.at(epoch, epochs) if isinstance(cosine_weight, CosineWeight) else cosine_weight
        order = torch.randperm(len(train), generator=generator).to(device)
        for rows in order.split(batch_size):
            context, target = beside([read(rows) for read in readers])
            loss = block_losses(weights(context, activation), target, len(readers), mse_weight, l1_weight, w)
            optimizer.zero_grad()
            (_balanced(loss, group[rows], len(behaviors)) if balanced else loss.mean()).backward()
            optimizer.step()
            scheduler.step()
        if judged is not None:
            losses.append(_validation_loss(weights, activation, judged, device))
            if losses[-1] < min(losses[:-1], default=math.inf):
                kept = weights.detached()
    last = weights.detached()
    return Training(kept if validation is not None else last, last, tuple(losses))


def _reader(contrasts: AnyContrasts, device: torch.device) -> Callable[[Int[Tensor, " rows"]], tuple[Tensor, Tensor]]:
    """Contexts and vectors of some rows, on the device."""
    if isinstance(contrasts, ShardedContrasts):
        return lambda rows: tuple(part.to(device) for part in contrasts.take(rows.cpu()))  # type: ignore[return-value]
    context, target = contrasts.context.float().to(device), contrasts.vectors.float().to(device)
    return lambda rows: (context[rows], target[rows])


def _validation_loss(
    weights: Weights, activation: Activation, validation: Sequence[AnyContrasts], device: torch.device
) -> float:
    """MSE + L1 - 0.05 * cosine, the mean over all rows."""
    with torch.no_grad():
        losses = []
        for parts in zip(*map(_batches, validation), strict=True):
            context, target = (part.to(device) for part in beside(parts))
            losses.append(block_losses(weights(context, activation), target, len(parts), 1.0, 1.0, 0.05))
        return float(torch.cat(losses).mean())


def _batches(contrasts: AnyContrasts) -> Iterable[tuple[Tensor, Tensor]]:
    """Contexts and vectors: those in memory at once."""
    if isinstance(contrasts, Contrasts):
        return [(contrasts.context.float(), contrasts.vectors.float())]
    return contrasts.batches()


def beside(parts: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """The contexts, which all blocks share, and the vectors of each block behind those of the one before."""
    return parts[0][0], torch.cat([target for _, target in parts], dim=1)


def block_losses(
    prediction: Float[Tensor, "rows width"],
    target: Float[Tensor, "rows width"],
    blocks: int,
    mse: float,
    l1: float,
    w: float,
) -> Float[Tensor, " rows"]:
    """The mean over blocks of `row_losses`, so that each block's vector counts by its own direction."""
    own, true = (part.unflatten(1, (blocks, -1)).flatten(0, 1) for part in (prediction, target))
    return row_losses(own, true, mse, l1, w).unflatten(0, (-1, blocks)).mean(dim=1)


def row_losses(
    prediction: Float[Tensor, "rows d_model"], target: Float[Tensor, "rows d_model"], mse: float, l1: float, w: float
) -> Float[Tensor, " rows"]:
    error = prediction - target
    loss = mse * error.square().mean(dim=1) + l1 * error.abs().mean(dim=1)
    return loss - w * cosine_similarity(prediction, target, dim=1)


def _balanced(loss: Float[Tensor, " rows"], group: Tensor, groups: int) -> Tensor:
    """The mean over all behaviours of their mean losses; one that the batch lacks counts as zero (published code)."""
    return sum(loss[group == i].mean() for i in range(groups) if (group == i).any()) / groups  # type: ignore[return-value]


def _schedule(schedule: Schedule, warmup: int, total: int) -> Callable[[int], float]:
    def scale(step: int) -> float:
        if step < warmup:
            return step / max(1, warmup)
        progress = (step - warmup) / max(1, total - warmup)
        return 1.0 if schedule == "constant" else max(0.0, 0.5 * (1 + math.cos(math.pi * progress)))

    return scale

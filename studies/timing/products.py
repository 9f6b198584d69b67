"""Matrix products of half-precision weights on processors that have no instructions for them."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

FEW = 8  # rows; below, reading the weights takes longer than the products, in any precision


def in_float32(model: nn.Module) -> None:
    """Let the linear layers of a model multiply in float32, one weight at a time, and round what comes out.

    That is what matrix units for half precision do. Without such units it is many times as fast as torch's products in
    bfloat16, and needs no second copy of the weights.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.forward = partial(_forward, module)  # type: ignore[method-assign]


def _forward(module: nn.Linear, hidden: Tensor) -> Tensor:
    bias = module.bias
    if hidden.shape[:-1].numel() < FEW or hidden.dtype is torch.float32:
        return linear(hidden, module.weight, bias)
    whole = linear(hidden.float(), module.weight.float(), None if bias is None else bias.float())
    return whole.to(hidden.dtype)

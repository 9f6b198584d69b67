"""L2S networks in the form that the published code writes: a PyTorch state dict of three float32 tensors."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from methods.training import Weights

KEYS = ("encoder.weight", "encoder.bias", "decoder.weight")
NEST = "steering_model"  # one of the published files holds its state dict under this key


def read_network(path: str | Path) -> Weights:
    """Read a published `.pt` file. Nothing but tensors is unpickled, so no code in the file can run.

    Raises ValueError, naming the key, where the file holds something else than encoder.weight [hidden, d_model],
    encoder.bias [hidden] and decoder.weight [d_model, hidden].
    """
    state = _loaded(path)
    state = state.get(NEST, state)
    if not isinstance(state, Mapping):
        raise ValueError(f"{path} holds a {type(state).__name__} under {NEST!r}; it must be a state dict.")
    if missing := [key for key in KEYS if key not in state]:
        raise ValueError(f"{path} lacks {', '.join(missing)}; an L2S network has {', '.join(KEYS)}.{_found(state)}")
    if extra := sorted(str(key) for key in state if key not in KEYS):
        raise ValueError(f"{path} also holds {', '.join(extra)}; an L2S network has {', '.join(KEYS)} and no more.")
    for key in KEYS:
        value = state[key]
        if not isinstance(value, Tensor) or not value.is_floating_point():
            raise ValueError(f"{key} in {path} is {_described(value)}; it must be a floating-point tensor.")
        if not torch.isfinite(value).all():
            raise ValueError(f"{key} in {path} holds NaN or infinite numbers; the file is broken.")
    weights = Weights(*(state[key].float().contiguous() for key in KEYS))
    _check_shapes(path, weights)
    return weights


def write_network(weights: Weights, path: str | Path) -> None:
    """Write the plain state dict, which the published code loads with `load_state_dict`."""
    torch.save({key: tensor.detach().float().cpu().clone() for key, tensor in zip(KEYS, weights, strict=True)}, path)


def _loaded(path: str | Path) -> Mapping[str, Any]:
    if not Path(path).is_file():
        raise ValueError(f"{path} is no file; give the .pt file of a published network.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(
            f"{path} is not a file of plain tensors and is not unpickled, since that could run code. Load it where you "
            f"trust it and save the three tensors {', '.join(KEYS)} again. ({reason[:120]})"
        ) from error
    if not isinstance(state, Mapping):
        raise ValueError(f"{path} holds a {type(state).__name__}; it must be a state dict with {', '.join(KEYS)}.")
    return state


def _check_shapes(path: str | Path, weights: Weights) -> None:
    encoder, bias, decoder = (list(tensor.shape) for tensor in weights)
    if len(encoder) != 2:
        raise ValueError(f"encoder.weight in {path} has shape {encoder}; it must be [hidden, d_model].")
    hidden, width = encoder
    for key, shape, fits in (("encoder.bias", bias, [hidden]), ("decoder.weight", decoder, [width, hidden])):
        if shape != fits:
            raise ValueError(
                f"{key} in {path} has shape {shape}; beside an encoder.weight of {encoder} it must be {fits}."
            )


def _found(state: Mapping[str, Any]) -> str:
    return f" It holds {', '.join(str(key) for key in list(state)[:6])}." if state else " It is empty."


def _described(value: Any) -> str:
    return f"a tensor of {value.dtype}" if isinstance(value, Tensor) else f"a {type(value).__name__}"

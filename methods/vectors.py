"""One vector in one file, to share: a GGUF control vector, or a safetensors file with its card in the header.

GGUF is what llama.cpp (`--control-vector`) and repeng read: float32 tensors `direction.<block>`. Each is added to the
output of that decoder block, counted from 0, at every token. Block 0 has no place there: the loop starts at 1.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from interv.places.scope import Scope
from methods.mean_steering import MeanSteering
from methods.mean_steering_ba import MeanSteeringBA

Constant = MeanSteering | MeanSteeringBA
_ARCHITECTURE = "controlvector"
_CARD = "steering.card"  # other readers pass over a key that they do not know
_METHODS: dict[str, type[Constant]] = {method.__name__: method for method in (MeanSteering, MeanSteeringBA)}


@dataclass(frozen=True, eq=False)
class VectorFile:
    """What such a file holds: a direction a block, and the card of the method that wrote it, {} in others' files."""

    directions: dict[int, Float[Tensor, " d_model"]]
    card: dict[str, Any]


def write_vector(steerer: Constant, path: str | Path, *, strength: float = 1.0, model_hint: str = "") -> None:
    """Write the method's vector times `strength` as `.gguf` or `.safetensors`, by the path's ending.

    `model_hint` is llama.cpp's name of the architecture ("llama", "qwen2vl"), which some programs show or compare.
    Raises ValueError for another ending, and for GGUF where the vector acts on block 0.
    """
    vector = (strength * steerer.vector).detach().float().cpu().contiguous()
    card = {
        "method": type(steerer).__name__,
        "reads": steerer.reads,
        "writes": steerer.writes,
        "fingerprint": steerer.fingerprint,
        "scope": steerer.scope,
        "strength": strength,
        "d_model": len(vector),
    }
    name = f"direction.{steerer.writes}"
    if _ending(path) == ".safetensors":
        save_file({name: vector}, path, metadata={_CARD: json.dumps(card)})
        return
    if steerer.writes < 1:
        raise ValueError("GGUF control vectors begin at block 1, and this one acts on block 0; write .safetensors.")
    writer = _gguf().GGUFWriter(path, _ARCHITECTURE)
    writer.add_string("controlvector.model_hint", model_hint)
    writer.add_uint32("controlvector.layer_count", 1)
    writer.add_string(_CARD, json.dumps(card))
    writer.add_tensor(name, vector.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read_vector(
    path: str | Path, *, block: int | None = None, fingerprint: str | None = None, scope: Scope | None = None
) -> Constant:
    """A method that adds the file's vector.

    Args:
        block: which one, where the file has several; a file of repeng's has one for nearly every block.
        fingerprint: of the model that the vector belongs to, `vlm.fingerprint`; by default the card's. Without either,
            every model of the same width takes it.
        scope: by default the card's, or "all" for a file of another program: llama.cpp and repeng steer every token.

    Raises ValueError where the file holds no vector, or not the one that was asked for.
    """
    file = read_file(path)
    if block is None and len(file.directions) > 1:
        raise ValueError(f"{path} has vectors for blocks {_listed(file.directions)}; pass block= to choose one.")
    chosen = next(iter(file.directions)) if block is None else block
    if chosen not in file.directions:
        raise ValueError(f"{path} has no vector for block {chosen}; it has {_listed(file.directions)}.")
    known = file.card.get("fingerprint", "")
    if fingerprint and known and fingerprint != known:
        raise ValueError(f"{path} was captured from model {known}, not from {fingerprint}; capture it again there.")
    method = _METHODS.get(file.card.get("method", ""), MeanSteering)
    reads = file.card.get("reads", chosen)
    scope = scope or file.card.get("scope", "all")
    return method(reads, chosen, fingerprint or known, file.directions[chosen], scope=scope)


def read_file(path: str | Path) -> VectorFile:
    """All vectors of a file. Raises ValueError where it is not one, or a vector is not of finite float32 numbers."""
    if not Path(path).is_file():
        raise ValueError(f"{path} is no file; give a .gguf or .safetensors file.")
    tensors, card = _read_safetensors(path) if _ending(path) == ".safetensors" else _read_gguf(path)
    directions = {}
    for name, vector in tensors.items():
        prefix, _, number = name.partition(".")
        if prefix != "direction" or not number.isdigit():
            raise ValueError(f"{path} holds a tensor {name!r}; a control vector has direction.<block> and no other.")
        if vector.dtype != torch.float32 or vector.ndim != 1 or not torch.isfinite(vector).all():
            raise ValueError(
                f"{name} in {path} is {vector.dtype} {list(vector.shape)}; it must be a row of finite float32 numbers."
            )
        directions[int(number)] = vector
    if not directions:
        raise ValueError(f"{path} holds no direction.<block>; it is no control vector.")
    if len({len(vector) for vector in directions.values()}) > 1:
        raise ValueError(f"{path} holds vectors of several widths; those of one model have one.")
    return VectorFile(dict(sorted(directions.items())), card)


def _read_safetensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            return {name: file.get_tensor(name) for name in file.keys()}, _card(path, metadata.get(_CARD))  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is no safetensors file ({error}).") from error


def _read_gguf(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    gguf = _gguf()
    try:
        reader = gguf.GGUFReader(path)
    except (ValueError, IndexError, KeyError, OverflowError) as error:
        raise ValueError(f"{path} is no GGUF file ({error}).") from error
    architecture = reader.get_field("general.architecture")
    kind = architecture.contents() if architecture else None
    if kind != _ARCHITECTURE:
        raise ValueError(f"{path} is a GGUF file of {kind!r}; a control vector's architecture is {_ARCHITECTURE!r}.")
    unfit = [f"{tensor.name} is {tensor.tensor_type.name}" for tensor in reader.tensors if tensor.tensor_type != 0]
    if unfit:
        raise ValueError(f"{path}: {', '.join(unfit[:3])}; a control vector is F32.")
    card = reader.get_field(_CARD)
    tensors = {tensor.name: torch.from_numpy(tensor.data.copy()) for tensor in reader.tensors}
    return tensors, _card(path, card.contents() if card else None)


def _card(path: str | Path, text: str | None) -> dict[str, Any]:
    try:
        card = json.loads(text or "{}")
    except ValueError as error:
        raise ValueError(f"The card in {path} is no JSON ({error}).") from error
    if not isinstance(card, dict):
        raise ValueError(f"The card in {path} is a {type(card).__name__}; it must be an object.")
    return card


def _ending(path: str | Path) -> Literal[".gguf", ".safetensors"]:
    ending = Path(path).suffix
    if ending not in (".gguf", ".safetensors"):
        raise ValueError(f"{path} ends in {ending!r}; a vector is kept as .gguf or .safetensors.")
    return ending  # type: ignore[return-value]


def _listed(directions: dict[int, Tensor]) -> str:
    return ", ".join(map(str, directions))


def _gguf() -> Any:
    try:
        import gguf
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "GGUF control vectors need the package gguf: pip install 'interv[gguf]', or use .safetensors."
        ) from error
    return gguf

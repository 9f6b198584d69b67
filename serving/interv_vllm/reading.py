"""Steerers from where they lie: the toolkit's folders, files of one vector, and the hub."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load
from torch import Tensor

from interv_vllm.steerers import ACTIVATIONS, WEIGHTS, Constant, Learned, Nothing, Steerer, SteererError, check_scope

ENDINGS = (".gguf", ".safetensors")
CARD = "steering.card"  # where a file of one vector keeps what a folder has in steerer.json
VECTORS = {"MeanSteering": "vector", "MeanSteeringBA": "vector", "NormRnd": "direction"}
SETTINGS = ("path", "scope", "block", "revision")
# What a card may say; what else it says may decide what is added, and is refused.
FIELDS = {"format", "method", "about", "sha256", "reads", "writes", "fingerprint", "scope", "activation", "per_input"}
OF_FILES = {"strength", "d_model"}  # already in the vector; its length


@dataclass(frozen=True)
class Source:
    """Where a steerer lies, and what of it is to be otherwise.

    Attributes:
        path: a folder that `steerer.save` wrote, a .gguf or .safetensors file of one vector, or a hub id.
        scope: in place of the one that was saved.
        block: which vector of a file that has several.
        revision: of a hub id.
    """

    path: str
    scope: str | None = None
    block: int | None = None
    revision: str | None = None

    @classmethod
    def of(cls, name: str, value: Any) -> "Source":
        """From the engine's configuration: a path, or an object with the fields above. Raises SteererError."""
        if isinstance(value, str | Path):
            return cls(str(value))
        if not isinstance(value, Mapping) or not isinstance(value.get("path"), str | Path):
            raise SteererError(f'Steerer {name!r} is {value!r}; give a path, or {{"path": ..., "scope": ...}}.')
        if unknown := sorted(value.keys() - {*SETTINGS}):
            raise SteererError(
                f"Steerer {name!r} has a setting {unknown[0]!r}; the settings are {', '.join(SETTINGS)}."
            )
        return cls(**{**value, "path": str(value["path"])})


def read_steerer(source: Source) -> tuple[Steerer, str]:
    """The steerer, and the fingerprint of the model that it was fitted on, "" where that is not known.

    Raises SteererError where nothing is there that an engine can run.
    """
    path = Path(source.path)
    if path.suffix in ENDINGS and not path.is_dir():
        card, tensors = _file(path, source.block)
    else:
        card, tensors = _folder(path if path.exists() else _from_hub(source))
    if unfit := [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]:
        raise SteererError(f"{unfit[0]} in {source.path} has numbers that are not finite.")
    return _made(card | ({"scope": source.scope} if source.scope else {}), tensors, source.path), card["fingerprint"]


def _made(card: Mapping[str, Any], tensors: Mapping[str, Tensor], where: str) -> Steerer:
    method = card["method"]
    if method == "NoSteering":
        return Nothing()
    if method not in {*VECTORS, "L2S"} or card.get("per_input"):
        own = f"{method} of each input's own vector" if card.get("per_input") else method
        raise SteererError(
            f"{where} holds {own}, which cannot be served; these can: L2S, {', '.join(VECTORS)} and NoSteering."
        )
    if unknown := sorted(card.keys() - FIELDS - OF_FILES):
        raise SteererError(f"{where} says {unknown[0]!r}, which this version does not know; update interv-vllm.")
    scope = check_scope(card["scope"], where)
    if not all(type(card[name]) is int for name in ("reads", "writes") if name in card):
        raise SteererError(f"{where} acts on {card['writes']!r} by {card['reads']!r}; one block each can be served.")
    if method in VECTORS:
        return Constant(card["writes"], scope, tensors[VECTORS[method]].float())
    if card["activation"] not in ACTIVATIONS:
        raise SteererError(f"{where} has the activation {card['activation']!r}; known are {', '.join(ACTIVATIONS)}.")
    weights = {name: tensors[name].float() for name in WEIGHTS}
    return Learned(card["reads"], card["writes"], scope, activation=card["activation"], **weights)


def _folder(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not (path / "steerer.json").is_file():
        raise SteererError(f"{path} holds no steerer.json; give the folder that steerer.save(folder) wrote.")
    card, stored = json.loads((path / "steerer.json").read_text()), (path / "steerer.safetensors").read_bytes()
    known = (card.get("sha256") or {}).get("steerer.safetensors")
    if known and known != hashlib.sha256(stored).hexdigest():
        raise SteererError(f"{path / 'steerer.safetensors'} is not as it was written; fetch it again, or fit it anew.")
    return card, load(stored)


def _from_hub(source: Source) -> Path:
    if source.path.count("/") != 1 or source.path.startswith((".", "/", "~")):
        raise SteererError(f"{source.path} is no folder and no file, and no hub id either (owner/name).")
    from huggingface_hub import snapshot_download  # vLLM brings it

    try:
        kept = snapshot_download(source.path, revision=source.revision, allow_patterns=["steerer.*"])
    except (OSError, ValueError) as error:  # what the hub raises is a kind of these
        raise SteererError(f"{source.path} is no folder here, and the hub gave none: {error}") from error
    return Path(kept)


def _file(path: Path, block: int | None) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not path.is_file():
        raise SteererError(f"{path} is no file.")
    text, directions = _safetensors(path) if path.suffix == ".safetensors" else _gguf(path)
    found = {int(name.removeprefix("direction.")): vector for name, vector in directions.items()}
    listed = ", ".join(map(str, sorted(found))) or "none"
    if block is None and len(found) > 1:
        raise SteererError(f'{path} has vectors for blocks {listed}; choose one: {{"path": ..., "block": ...}}.')
    chosen = next(iter(found), None) if block is None else block
    if chosen is None or chosen not in found:
        raise SteererError(f"{path} has no vector for block {chosen}; it has {listed}.")
    # Other programs write no card, and add their vectors everywhere.
    known = {"method": "MeanSteering", "scope": "all", "fingerprint": ""} | json.loads(text or "{}")
    return known | {"writes": chosen}, {VECTORS[known["method"]]: found[chosen]}


def _safetensors(path: Path) -> tuple[str | None, dict[str, Tensor]]:
    with safe_open(path, framework="pt") as file:
        directions = {name: file.get_tensor(name) for name in file.keys() if _is_direction(name)}  # noqa: SIM118
        return (file.metadata() or {}).get(CARD), directions


def _gguf(path: Path) -> tuple[str | None, dict[str, Tensor]]:
    try:
        import gguf
    except ModuleNotFoundError as error:
        raise SteererError(f"{path} needs the package gguf: pip install 'interv-vllm[gguf]'.") from error
    reader = gguf.GGUFReader(path)
    card = reader.get_field(CARD)
    directions = {
        one.name: torch.from_numpy(one.data.copy())
        for one in reader.tensors
        if _is_direction(one.name) and one.tensor_type == gguf.GGMLQuantizationType.F32
    }
    return card.contents() if card else None, directions


def _is_direction(name: str) -> bool:
    prefix, _, number = name.partition(".")
    return prefix == "direction" and number.isdigit()

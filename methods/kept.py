"""A fitted method on disk: tensors as safetensors, all else as JSON, and a hash of both. Never a pickle.

Format 1 of `steerer.json`: `format`, `method`, the method's own fields, `about` (what a fit says of itself, or absent)
and `sha256` of the two files, its own without that entry. Files from before have `method` and the fields alone.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from methods.contrasts.separate import separate

FORMAT = 1
CARD, TENSORS = "steerer.json", "steerer.safetensors"
PICKLES = (".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt")
_OWN = ("format", "method", "about", "sha256")


def write_kept(folder: Path, method: str, values: Mapping[str, Any], about: Mapping[str, Any] | None = None) -> None:
    """Write the two files; the card comes last, so that a folder with one is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = separate(values)
    stored = save(tensors)
    card: dict[str, Any] = {"format": FORMAT, "method": method}
    card |= {name: value for name, value in values.items() if name not in tensors}
    card |= {} if about is None else {"about": about}
    card = json.loads(json.dumps(card, allow_nan=True))
    card["sha256"] = {TENSORS: hashlib.sha256(stored).hexdigest(), CARD: _hash(card)}
    for name, content in ((TENSORS, stored), (CARD, json.dumps(card, indent=1).encode())):
        partial = folder / f"{name}.partial"
        partial.write_bytes(content)
        os.replace(partial, folder / name)


def read_card(folder: str | Path) -> dict[str, Any]:
    """All that `steerer.json` says: `method`, the method's fields, and `about` where a fit wrote it.

    Raises ValueError where the folder holds none, or it is not as it was written.
    """
    path = Path(folder)
    _check_place(path)
    try:
        card = json.loads((path / CARD).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path / CARD} is no JSON ({error}); it was truncated or changed: fetch it again.") from None
    if not isinstance(card, dict) or not isinstance(card.get("method"), str):
        raise ValueError(f"{path / CARD} names no method; give the folder that steerer.save(folder) wrote.")
    version = card.get("format", 0)
    if not isinstance(version, int) or version > FORMAT:
        raise ValueError(f"{path / CARD} has format {version!r}, and this version reads up to {FORMAT}: update interv.")
    return card


def checked_values(folder: Path, card: Mapping[str, Any]) -> dict[str, Any]:
    """The method's fields, tensors among them, after both files were compared with their hashes. Raises ValueError."""
    file = folder / TENSORS
    if not file.is_file():
        others = sorted(one.name for one in folder.glob("*.safetensors"))
        there = f"; there is {', '.join(others)}: give it back its name" if others else ""
        raise ValueError(f"{folder} lacks {TENSORS}, which its {CARD} goes with{there}.")
    stored = file.read_bytes()
    if "format" in card:
        hashes = card.get("sha256")
        hashes = hashes if isinstance(hashes, dict) else {}
        found = {TENSORS: hashlib.sha256(stored).hexdigest(), CARD: _hash(card)}
        if wrong := [name for name in found if hashes.get(name) != found[name]]:
            raise ValueError(
                f"{folder / wrong[0]} is not as it was written: its hash is {found[wrong[0]][:12]} and should be "
                f"{str(hashes.get(wrong[0]))[:12]}. It was truncated, changed, or belongs to another steerer: fetch it "
                "again, or fit it anew."
            )
    try:
        tensors: dict[str, Tensor] = load(stored)
    except SafetensorError as error:
        raise ValueError(f"{file} is no whole safetensors file ({error}): fetch it again.") from None
    return {name: value for name, value in card.items() if name not in _OWN} | tensors


def _check_place(path: Path) -> None:
    if path.is_file():
        if path.suffix.lower() in PICKLES:
            raise ValueError(
                f"{path} is a pickle, which can run code when it is read, and is not opened. A steerer is a folder of "
                f"{CARD} and {TENSORS}; L2S.from_reference reads the tensors of a published network."
            )
        raise ValueError(f"{path} is a file; give the folder that holds {CARD} and {TENSORS}.")
    if (path / CARD).is_file():
        return
    there = sorted(one.name for one in path.iterdir()) if path.is_dir() else []
    if pickles := [name for name in there if name.lower().endswith(PICKLES)]:
        said = f"; {', '.join(pickles)} beside it is a pickle, which can run code when it is read, and is not opened"
    elif found := [name for name in there if name.endswith((".json", ".safetensors"))]:
        said = f"; there is {', '.join(found)}"
    else:
        said = ""
    raise ValueError(f"{path} holds no {CARD}{said}; give the folder that steerer.save(folder) wrote.")


def _hash(card: Mapping[str, Any]) -> str:
    """Of the card's content, however it is laid out."""
    bare = {name: value for name, value in card.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(bare, sort_keys=True).encode()).hexdigest()

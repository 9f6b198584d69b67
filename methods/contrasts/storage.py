"""Contrasts on disk: their tensors in one file, all else in another."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from methods.contrasts.separate import separate

_TENSORS, _CARD = "contrasts.safetensors", "contrasts.json"


def save_fields(contrasts: Any, folder: str | Path) -> None:
    """Write the tensors and the other fields of a dataclass into two files of the folder."""
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    values = {field.name: getattr(contrasts, field.name) for field in fields(contrasts)}
    tensors = separate(values)
    save_file(tensors, path / _TENSORS)
    card = {name: value for name, value in values.items() if name not in tensors and value is not None}
    (path / _CARD).write_text(json.dumps(card, indent=1))


def load_fields(folder: str | Path, kind: type, mark: str) -> dict[str, Any]:
    """The fields of a saved value; `mark` is one that only this kind of value has."""
    path = Path(folder)
    card = json.loads((path / _CARD).read_text()) if (path / _CARD).exists() else {}
    if mark not in card:
        raise ValueError(f"{path} holds no {kind.__name__}; give a folder that {kind.__name__}.save wrote.")
    return {"agnostic": None} | {name: tuples(value) for name, value in card.items()} | load_file(path / _TENSORS)


def tuples(value: Any) -> Any:
    """JSON's lists as the tuples that they were."""
    return tuple(map(tuples, value)) if isinstance(value, list) else value

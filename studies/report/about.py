"""What a result is of, in words: task, split, sizes, seeds, model, commit, and what is wrong with its data."""

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from markupsafe import Markup, escape

from studies.measure import Record

SPLITS = {"val": "validation", "test": "test", "train": "training"}
SPLIT_FLAW = "the published split"  # skipped.jsonl's name for a flaw of the whole data rather than of an item


def about(records: Sequence[Record], recipe: Mapping[str, Any], split: str = "") -> str:
    """What a figure needs that is shown without its page; the split is left out where it is said beside it."""
    largest = max((record["n"] for record in records), default=0)
    seeds = max((record["seeds"] for record in records), default=0)
    units = max((record.get("units") or record["n"] for record in records), default=0)
    shared = f" about {units:,} images" if units < largest else ""
    tasks = list(dict.fromkeys(str(record["task"]) for record in records if record.get("task")))
    parts = [", ".join(tasks + ([f"{SPLITS.get(split, split)} split"] if split else []))]
    parts += [f"n = {largest:,} examples a method{shared}", f"up to {seeds} seeds" if seeds > 1 else "1 seed"]
    parts += [short(_model(recipe))]
    parts += [f"commit {recipe['commit'][:10]}"] if recipe.get("commit") else []
    return "; ".join(filter(None, parts))


def pathless(text: str, recipe: Mapping[str, Any]) -> str:
    """The text, with a local model's name in the place of its whole path."""
    name = _model(recipe)
    return text.replace(name, short(name)) if name else text


def _model(recipe: Mapping[str, Any]) -> str:
    """The model as it was asked for; "" where the recipe has none."""
    return str(recipe.get("settings", {}).get("model") or "")


def short(name: str) -> str:
    """A model's name without the folders of a local one: "owner/name" is a name of Hugging Face's and stays."""
    if re.match(r"[./~\\]|[A-Za-z]:", name) or name.count("/") > 1 or "\\" in name:
        path = PureWindowsPath(name) if "\\" in name else PurePosixPath(name)
        return path.name or name
    return name


def whole_flaws(skipped: Mapping[str, str]) -> list[str]:
    """Sentences about flaws that concern all items."""
    return [f"{id.capitalize()} {reason.rstrip('.')}." for id, reason in skipped.items() if id == SPLIT_FLAW]


def breakable(name: str) -> Markup:
    """A method's name that may be broken between its words, and before what is in its brackets."""
    parts = re.split(r"(?<=[a-z])(?=[A-Z])|(?<=\S)(?=\()|(?<=[=,_/])(?=\S)", name)
    return Markup("<wbr>").join(escape(part) for part in parts)

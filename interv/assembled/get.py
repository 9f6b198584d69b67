"""Put a model together: fetch its parts, merge its delta into them, keep it; and find it again."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import rich
import torch
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from interv.assembled.base import assemble
from interv.assembled.catalog import MODELS, PARTS
from interv.assembled.delta import add_delta
from interv.assembled.kept import folder_of, put, workshop
from interv.assembled.parts import NotFetched, fetch
from interv.assembled.tower import register

MARK = "made_from.txt"  # in a kept folder: the hash of what it was made from


def get(names: Sequence[str]) -> list[Path]:
    """Put the models together that are not kept already, and say so; return their folders.

    Raises ValueError for a name that there is no model of, and NotFetched where a part could not be had.
    """
    if unknown := [name for name in names if name not in MODELS]:
        raise ValueError(f"{unknown[0]!r} cannot be put together; there are: {', '.join(MODELS)}.")
    missing = [name for name in dict.fromkeys(names) if not _is_kept(name)]
    if missing:
        with workshop() as bench:
            _make(missing, bench)
    for name in names:
        how = "was put together" if name in missing else "was here already"
        rich.print(f"{name} {how}: {folder_of(name)}. VLM.load({name!r}) and --model {name} find it there.")
    return [folder_of(name) for name in names]


def fetched_base(bench: Path) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """The model without a delta, from freshly fetched parts that are unpacked into the folder."""
    if find_spec("gguf") is None:
        raise NotFetched("The language model is a GGUF file, which gguf reads: pip install 'interv[smol]'.")
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns) as progress:
        files = []
        for part in PARTS:
            task = progress.add_task(f"fetching {part.named} ({part.megabytes} MB, {part.licence})", total=1)
            files.append(fetch(part, bench))
            progress.advance(task)
        task = progress.add_task("putting them together", total=1)
        made = assemble(*files)
        progress.advance(task)
    return made


def find(name: str) -> Path:
    """The folder of a model that was put together. Raises ValueError with what to do where it is not there."""
    register()
    if _is_kept(name):
        return folder_of(name)
    size = sum(part.megabytes for part in PARTS)
    why = "is not here yet" if not folder_of(name).exists() else "was put together by another version of interv"
    raise ValueError(
        f"{name} {why}: `interv get {name}` fetches its parts ({size} MB) and puts it together in {folder_of(name)}."
    )


def _make(names: Sequence[str], bench: Path) -> None:
    model, processor = fetched_base(bench)
    language = {key: value.clone() for key, value in model.state_dict().items()} if len(names) > 1 else {}
    for name in names:
        if language:
            model.float().load_state_dict(language)
        add_delta(model, MODELS[name].delta)
        finished = bench / name
        model.to(torch.bfloat16).save_pretrained(finished)
        processor.save_pretrained(finished)
        (finished / MARK).write_text(MODELS[name].recipe)
        put(finished, name)


def _is_kept(name: str) -> bool:
    mark = folder_of(name) / MARK
    return mark.exists() and mark.read_text() == MODELS[name].recipe

"""`interv check`: a file of examples in words."""

from typing import Annotated, Any

import tyro

from interv_cli.main import Answer
from studies.measure import some
from studies.recipes import Recipe
from studies.tasks.examples_file import Inspection, inspect, read_data

SHOWN = 20  # reasons on the console; --json has all


def check(
    data: Annotated[str, tyro.conf.Positional], split: tuple[int, int, int] = (60, 20, 20), seed: int = 0
) -> Answer:
    """Read a file of examples and say what is in it.

    Args:
        data: .jsonl, .json, .csv, .tsv or .parquet, or owner/name of a data set of the hub.
        split: parts of the images that train, choose and judge.
        seed: of the split.
    """
    found = inspect(read_data(data), Recipe("own", "own", "", split=split, split_seed=seed))
    print("\n".join(said(found)))
    return Answer(found.as_json(), 1 if found.flaws or found.split_flaw else 0)


def said(found: Inspection) -> list[str]:
    """The inspection, a line each."""
    lines = [f"{found.source}: {found.usable:,} of {found.rows:,} rows can be used, data hash {found.hash}."]
    lines += [f"  {flaw.id}: {flaw.reason}" for flaw in found.flaws[:SHOWN]]
    if len(found.flaws) > SHOWN:
        lines.append(f"  ... and {len(found.flaws) - SHOWN:,} more; --json names all.")
    lines.append(
        f"{found.images:,} different images; {found.shared:,} of them are shared, by {found.rows_on_shared:,} rows. "
        f"{found.without_image:,} rows have none."
    )
    lines.append(f"Behaviours: {_counts(found.behaviors)}. Targets: {_counts(found.targets)}.")
    if "" in found.targets:
        lines.append("Not every row has a target, so a fit asks which answer the model prefers.")
    for name, ids in (("say the same as an earlier one", found.repeated), ("contradict another one", found.opposed)):
        if ids:
            lines.append(f"{len(ids):,} rows {name}: {some(ids)}.")
    if found.unread:
        lines.append(f"Fields that say nothing here: {', '.join(found.unread)}.")
    if found.split_flaw:
        return [*lines, f"It cannot be split: {found.split_flaw}"]
    return [*lines, "Split by image:", *(f"  {name:<5} {_part(part)}" for name, part in found.splits.items())]


def _part(part: dict[str, Any]) -> str:
    return f"{part['rows']:,} rows about {part['images']:,} images; behaviours: {_counts(part['behaviors'])}"


def _counts(counts: dict[str, int]) -> str:
    named = [f"{name or '(none)'} {count:,}" for name, count in counts.items()]
    return some(named, 8)

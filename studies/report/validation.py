"""What the studies on validation data share: two parts of the examples, the caption of a figure, and the ending."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from studies.fit.selection import Choice, ranked, thinned
from studies.measure import Record, Row
from studies.report.conclusion import conclude
from studies.run.bench import Bench
from studies.tasks.task import Example


def apart(examples: Sequence[Example], first: int) -> tuple[list[Example], list[Example]]:
    """The first examples of each subset to choose on, at most half of it, and the others to judge on.

    An example goes where the first of its unit went, so that no image is on both sides. Raises ValueError where a
    subset has one example, which cannot be parted.
    """
    sizes = Counter(example.subset for example in examples)
    if alone := [name for name, size in sizes.items() if size < 2]:
        raise ValueError(f"The subset {alone[0]} has one example; a study needs one to choose on and one to judge on.")
    chosen: list[Example] = []
    judged: list[Example] = []
    seen: Counter[str] = Counter()
    home: dict[str, list[Example]] = {}
    for example in examples:
        seen[example.subset] += 1
        part = chosen if seen[example.subset] <= min(first, sizes[example.subset] // 2) else judged
        home.setdefault(example.unit, part).append(example)
    return chosen, judged


def choose_on(bench: Bench, part: Sequence[Example], methods: Sequence[str]) -> list[Choice]:
    """All settings of the grid, ranked on these validation examples; answers what is not answered yet."""
    bench.answer("val", part, [setting for name in methods for setting in bench.candidates(name)])
    return ranked(rows_of(bench.rows("val"), part), bench.task)


def rows_of(rows: Sequence[Row], examples: Sequence[Example]) -> list[Row]:
    """The rows of these examples."""
    wanted = {example.id for example in examples}
    return [row for row in rows if row["id"] in wanted]


def judged_rows(bench: Bench, examples: Sequence[Example], choices: Sequence[Choice], shown: int) -> list[Row]:
    """Answer the validation examples in these settings; gives their rows. `shown` images a subset go to the report."""
    settings = [bench.setting(choice, bench.common.seed) for choice in choices]
    bench.answer("val", examples, settings, pictured=thinned(examples, shown))
    rows = rows_of(bench.rows("val"), examples)
    return [row for row in rows if any(choice.matches(row) for choice in choices)]


def about(bench: Bench, n: int, seeds: int = 1) -> str:
    """What a figure needs that is shown without its page: split, sample size, seeds, model and commit."""
    recipe = json.loads((bench.results.folder / "recipe.json").read_text(encoding="utf-8"))
    parts = [f"{bench.task.name}, validation, n = {n:,}", f"{seeds} seeds" if seeds > 1 else "1 seed", bench.vlm.name]
    return "; ".join(parts + ([f"commit {recipe['commit'][:10]}"] if recipe.get("commit") else []))


def finish(
    bench: Bench,
    rows: Sequence[Row],
    records: list[Record],
    title: str,
    pictures: Sequence[tuple[Path, str]],
    **more: Any,
) -> list[Record]:
    """`conclude` for a table of validation examples, whose page shows replies to these alone."""
    judged = frozenset(row["id"] for row in rows)  # and not what settings were chosen on
    return conclude(bench, records, title, split="val", extra_figures=pictures, among=judged, **more)

"""How a study ends: its table and page are written, and the console says what was found and where it all lies."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from studies.measure import Record, Row, table
from studies.report.findings import BASELINE, against_best, finding
from studies.report.page import write_report
from studies.run.bench import Bench


def table_of(
    bench: Bench,
    rows: Sequence[Row],
    baseline: str = BASELINE,
    *,
    metric: str | None = None,
    lower_is_better: bool = False,
) -> list[Record]:
    """The table of these rows, by all of the task's metrics.

    It also has the difference to the best method by the metric that leads, the objective by default, where it compares
    methods with the unsteered model.
    """
    records = table(rows, bench.task.metrics, baseline, skipped=len(bench.results.skipped))
    if baseline != BASELINE:
        return records
    leading = next(one for one in bench.task.metrics if one.name == (metric or bench.task.objective))
    return against_best(records, rows, leading, lower_is_better=lower_is_better)


def conclude(
    bench: Bench,
    records: list[Record],
    title: str,
    *,
    metric: str | None = None,
    lower_is_better: bool = False,
    answer: Sequence[str] = (),
    found: bool = True,
    **more: Any,
) -> list[Record]:
    """Write table and page of these records, and say where they lie; gives the records.

    `metric` leads, by default the task's objective. `answer` are sentences that come before what the table says of the
    methods, and stand alone where that is not to be said (`found`), or where the table compares with another baseline
    than the unsteered model. `more` goes to `write_report`.
    """
    folder, name = bench.results.folder, metric or bench.task.objective
    if found and records[0]["baseline"] == BASELINE:
        answer = [*answer, *finding(records, name, lower_is_better=lower_is_better)]
    bench.results.write("table.json", records)
    bench.note_cost()
    page = write_report(folder, title, metric=name, lower_is_better=lower_is_better, said=answer, **more)
    tell(folder / "table.md", page)
    return records


def tell(table_file: Path, page: Path) -> None:
    """Print what was found, the first table, and the page's path: plainly, so that a path can be copied."""
    head, *tables = table_file.read_text(encoding="utf-8").split("\n## ")
    print("\n## ".join([head, *tables[:1]]).rstrip())
    if len(tables) > 1:
        print(f"\n{len(tables) - 1} more tables are in {table_file}")
    print(f"Table, figures and page are in {page}")

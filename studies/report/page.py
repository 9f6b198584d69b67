"""A result folder as something to read: `table.md`, `figures/*.png`, and `report.html`, one self-contained page.

Works on the files of the folder alone, so a table is redrawn without a model. Questions and replies are foreign text:
they are escaped wherever they are shown, and the page refuses every request and every script but its own.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image

from studies.measure import Record, Row, group
from studies.report.about import about, breakable, pathless, whole_flaws
from studies.report.figures import style as figures
from studies.report.figures.curves import strength_curves
from studies.report.findings import finding
from studies.report.naming import CONTROLS, ORACLES, words
from studies.report.replies import effects, embedded, entries, sample
from studies.report.tables import ExtraTable, markdown, matrix
from studies.run import cost as costs
from studies.run.results import read_rows, read_skipped, write_text

TEMPLATE = Path(__file__).parent / "template"
ANSWERS = 8  # of an input that are shown before the others are folded


def write_report(
    folder: str | Path,
    title: str,
    *,
    metric: str | None = None,
    lower_is_better: bool = False,
    split: str = "test",
    curves: Sequence[Record] = (),
    curve_metrics: Sequence[str] = (),
    curve_note: str = "",
    extra_figures: Sequence[tuple[Path, str]] = (),
    extra_tables: Sequence[ExtraTable] = (),
    among: frozenset[str] | None = None,
    said: Sequence[str] = (),
    shown: int = 24,
    seed: int = 0,
) -> Path:
    """Write the report of a finished study from its `table.json`, `rows.jsonl` and `recipe.json`; gives its path.

    `metric` leads the page: it makes the finding, the first table and the first figure (default: the table's first).
    `curves` are records over several strengths, drawn for each of `curve_metrics`, and `curve_note` says what they are
    of. `extra_figures` are PNG files with captions, put after them; `<name>-dark.png` beside one is its dark version.
    `extra_tables`, each a title, a head and a body, come before the table. `shown` inputs are drawn with `seed` from
    the rows of `split`, or of the ids `among` them. `said` are sentences in the finding's place. Raises
    FileNotFoundError for a folder without a table, ValueError for a metric not in it.
    """
    folder = Path(folder)
    if not (folder / "table.json").exists():
        raise FileNotFoundError(f"{folder} has no table.json: run the study to its end first.")
    records: list[Record] = json.loads((folder / "table.json").read_text(encoding="utf-8"))
    recipe = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))
    names = list(dict.fromkeys(record["metric"] for record in records))
    if (metric := metric or names[0]) not in names:
        raise ValueError(f"The table has no metric {metric!r}: it has {', '.join(names)}.")
    names.sort(key=lambda name: name != metric)
    tables = [matrix(records, name) for name in names]
    sentences = list(said) or finding(records, metric, lower_is_better=lower_is_better)
    skipped = read_skipped(folder)
    title = pathless(title, recipe)
    note, flaws, cost = about(records, recipe, split), whole_flaws(skipped), costs.said(folder)
    flaws = [*recipe.get("notes", ()), *flaws]
    write_text(
        folder / "table.md", markdown(title, sentences, extra_tables, tables, note, len(skipped), cost, flaws=flaws)
    )

    listed = {group(record) for record in records}
    rows: list[Row] = [row for row in read_rows(folder) if row["split"] == split and group(row) in listed]
    rows = [row for row in rows if among is None or row["id"] in among]
    of_curves = "; ".join(filter(None, (curve_note, about(curves, recipe))))
    drawn = _figures(folder, records, metric, note, curves, curve_metrics or [metric], of_curves)
    drawn += [_shown(file) | {"caption": pathless(caption, recipe)} for file, caption in extra_figures]
    script = (TEMPLATE / "report.js").read_text(encoding="utf-8")
    page = _template().render(
        title=title,
        finding=sentences,
        about=note,
        flaws=flaws,
        tables=tables,
        extra_tables=extra_tables,
        figures=drawn,
        effects=effects(rows),
        entries=entries(folder, rows, sample(rows, shown, seed)),
        inputs=len({row["id"] for row in rows}),
        seed=seed,
        answers=ANSWERS,
        recipe=json.dumps(recipe, indent=2, ensure_ascii=False),
        skipped=skipped,
        cost=cost,
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        style=Markup((TEMPLATE / "report.css").read_text(encoding="utf-8")),
    )
    return write_text(folder / "report.html", page)


def _template() -> Any:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["words"] = words
    environment.filters["breakable"] = breakable
    environment.filters["named"] = lambda values: [(value, words(value)) for value in values]
    return environment.get_template("report.html.jinja")


def _figures(
    folder: Path,
    records: Sequence[Record],
    metric: str,
    note: str,
    curves: Sequence[Record],
    curve_metrics: Sequence[str],
    curve_note: str,
) -> list[dict[str, str]]:
    """The table's figure, and the strength curves if there are records for them. The notes are of either."""
    hollow = "hollow marks are the controls and the oracle, which is given the wanted answer"
    has_hollow = any(record["method"] in CONTROLS + ORACLES for record in records)
    caption = f"{note}; bars are 95% intervals" + f"; {hollow}" * has_hollow
    drawn = [
        _drawn(folder, metric, lambda theme: figures.intervals(records, metric, caption=caption, theme=theme))
        | {"caption": f"{words(metric).capitalize()}. The dotted line is at the first method's value; {caption}."}
    ]
    if curves:
        below = f"{curve_note}; bands are 95% intervals"
        drawn.append(
            _drawn(folder, "strength", lambda theme: strength_curves(curves, curve_metrics, caption=below, theme=theme))
            | {"caption": f"Every method over strength; {below}."}
        )
    return drawn


def _drawn(folder: Path, name: str, draw: Callable[[figures.Theme], Figure]) -> dict[str, str]:
    """The figure as a file for papers, and in both themes for the page."""
    return _shown(figures.both(folder, name, draw))


def _shown(file: Path) -> dict[str, str]:
    """The file, its dark version if one lies beside it, and its width, which makes letters of one size on the page."""
    both = (file, file.with_name(f"{file.stem}-dark.png"))
    light, dark = (embedded(one.read_bytes(), "image/png") if one.exists() else "" for one in both)
    return {"light": light, "dark": dark, "inches": f"{Image.open(file).width / figures.DPI:.2f}"}

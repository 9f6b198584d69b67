"""A result folder as something to read: `table.md`, `figures/*.png`, and `report.html`, one self-contained page.

Works on the files of the folder alone, so a table is redrawn without a model. Questions and replies are foreign text:
they are escaped wherever they are shown, and the page refuses every request and every script but its own.
"""

import base64
import hashlib
import html
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image

from studies.metrics import Record, Row, group
from studies.parts import cost as costs
from studies.parts.finding import finding
from studies.parts.replies import effects, embedded, entries, sample
from studies.parts.results import read_rows, read_skipped, write_text
from studies.plots import figures
from studies.plots.curves import strength_curves

TEMPLATES = Path(__file__).parent / "templates"
BASELINE = "NoSteering"
NOTHING = ("\u2013", "")


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
    among: frozenset[str] | None = None,
    said: Sequence[str] = (),
    shown: int = 24,
    seed: int = 0,
) -> Path:
    """Write the report of a finished study from its `table.json`, `rows.jsonl` and `recipe.json`; gives its path.

    `metric` leads the page: it makes the finding, the first table and the first figure (default: the table's first).
    `curves` are records over several strengths, drawn for each of `curve_metrics`, and `curve_note` says what they are
    of. `extra_figures` are PNG files with captions, put after them; `<name>-dark.png` beside one is its dark version.
    `shown` inputs are drawn with `seed` from the rows of `split`, or of the ids `among` them. `said` are sentences in
    the finding's place. Raises FileNotFoundError for a folder without a table, ValueError for a metric not in it.
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
    tables = [_matrix(records, name) for name in names]
    sentences = list(said) or finding(records, metric, lower_is_better=lower_is_better)
    skipped = read_skipped(folder)
    about = _about(records, recipe)
    write_text(
        folder / "table.md", _markdown(title, sentences, tables, about, len(skipped), cost := costs.said(folder))
    )

    listed = {group(record) for record in records}
    rows: list[Row] = [row for row in read_rows(folder) if row["split"] == split and group(row) in listed]
    rows = [row for row in rows if among is None or row["id"] in among]
    drawn = _figures(
        folder, records, metric, curves, curve_metrics or [metric], curve_note, about, _about(curves, recipe)
    )
    drawn += [_shown(file) | {"caption": caption} for file, caption in extra_figures]
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    page = _template().render(
        title=title,
        finding=sentences,
        about=about,
        tables=tables,
        figures=drawn,
        effects=effects(rows),
        entries=entries(folder, rows, sample(rows, shown, seed)),
        inputs=len({row["id"] for row in rows}),
        seed=seed,
        recipe=json.dumps(recipe, indent=2, ensure_ascii=False),
        skipped=skipped,
        cost=cost,
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        style=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
    )
    return write_text(folder / "report.html", page)


def _template() -> Any:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["words"] = figures.words
    environment.filters["named"] = lambda values: [(value, figures.words(value)) for value in values]
    return environment.get_template("report.html.jinja")


def _figures(
    folder: Path,
    records: Sequence[Record],
    metric: str,
    curves: Sequence[Record],
    curve_metrics: Sequence[str],
    curve_note: str,
    about: str,
    about_curves: str,
) -> list[dict[str, str]]:
    """The table's figure, and the strength curves if there are records for them."""
    drawn = [
        _drawn(folder, metric, lambda theme: figures.intervals(records, metric, caption=about, theme=theme))
        | {
            "caption": f"{figures.words(metric).capitalize()} with 95% intervals. The dotted line is at the first "
            "method's value; hollow marks are the controls and the oracle, which is given the wanted answer."
        }
    ]
    if curves:
        note = "; ".join(part for part in (curve_note, about_curves) if part)
        drawn.append(
            _drawn(
                folder,
                "strength",
                lambda theme: strength_curves(curves, curve_metrics, caption=note, theme=theme),
            )
            | {"caption": f"Every method over strength, with 95% bands; {note}."}
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


def _about(records: Sequence[Record], recipe: dict[str, Any]) -> str:
    """Sample size, seeds, model and commit: what a figure needs that is shown without its page."""
    largest = max((record["n"] for record in records), default=0)
    seeds = max((record["seeds"] for record in records), default=0)
    units = max((record["units"] for record in records), default=0)
    shared = f" about {units:,} images" if units < largest else ""
    parts = [f"n = {largest:,} examples a method{shared}", f"up to {seeds} seeds" if seeds > 1 else "1 seed"]
    parts += [str(recipe["settings"]["model"])] if recipe.get("settings", {}).get("model") else []
    parts += [f"commit {recipe['commit'][:10]}"] if recipe.get("commit") else []
    return "; ".join(parts)


def _matrix(records: Sequence[Record], metric: str) -> dict[str, Any]:
    """One metric as methods by subsets, with the difference to the baseline over all subsets."""
    chosen = [record for record in records if record["metric"] == metric]
    columns = figures.subsets(chosen)
    lines = []
    for first in figures.listed(chosen):
        cells = {record["subset"]: record for record in chosen if group(record) == group(first)}
        whole = cells.get(columns[0], first)
        lines.append(
            {
                "label": figures.label(first, chosen),
                "setting": _setting(first),
                "n": whole["n"],
                "seeds": whole["seeds"],
            }
            | {"cells": [_cell(cells.get(name), "value", "low", "high", "{:.3f}".format) for name in columns]}
            | {"difference": _difference(whole)}
        )
    return {"metric": metric, "columns": columns, "lines": lines}


def _cell(record: Record | None, value: str, low: str, high: str, form: Callable[[float], str]) -> tuple[str, str]:
    """("0.925", "0.912 to 0.937"), or NOTHING where the metric is not defined."""
    if record is None or record.get(value) is None:
        return NOTHING
    if record.get(low) is None:
        return form(record[value]), ""
    return form(record[value]), f"{form(record[low])} to {form(record[high])}"


def _difference(record: Record) -> tuple[str, str]:
    if record["method"] == BASELINE:
        return NOTHING
    return _cell(record, "difference", "difference_low", "difference_high", figures.signed)


def _setting(record: Record) -> str:
    parts = [f"strength {record['strength']}"] if record["strength"] else []
    parts += [f"reads {record['reads']}"] if record["reads"] is not None else []
    parts += [f"writes {record['writes']}"] if record["writes"] is not None else []
    return ", ".join(parts)


def _markdown(
    title: str, sentences: Sequence[str], tables: Sequence[dict[str, Any]], about: str, skipped: int, cost: str
) -> str:
    """Every metric as a Markdown table: value [95% interval]."""
    parts = [f"# {_safe(title)}", " ".join(map(_safe, sentences))]
    for table in tables:
        whole, *parts_of_it = table["columns"]
        head = ["method", "setting", whole, f"difference to {BASELINE}", *parts_of_it, "n", "seeds"]
        body = [
            [_safe(line["label"]), _safe(line["setting"])]
            + [_joined(cell) for cell in (line["cells"][0], line["difference"], *line["cells"][1:])]
            + [f"{line['n']:,}", str(line["seeds"])]
            for line in table["lines"]
        ]
        lines = [map(_safe, head), ["---"] * 2 + ["---:"] * (len(head) - 2), *body]
        parts += [f"## {_safe(figures.words(table['metric']))}"]
        parts += ["\n".join("| " + " | ".join(cells) + " |" for cells in lines)]
    parts.append(
        "In brackets: 95% percentile bootstrap interval over examples, those about one image drawn together. "
        f"{_safe(about)}. Skipped items: {skipped}." + (f" Cost: {_safe(cost)}." if cost else "")
    )
    return "\n\n".join(parts) + "\n"


def _joined(cell: tuple[str, str]) -> str:
    return f"{cell[0]} [{cell[1]}]" if cell[1] else cell[0]


def _safe(text: object) -> str:
    """Foreign text inside Markdown: on one line, with no markup, link, HTML or end of a table cell."""
    line = html.escape(" ".join(str(text).split()), quote=False)
    return re.sub(r"([\\`*\[\]|~]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))", r"\\\1", line)

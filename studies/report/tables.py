"""A metric as methods by subsets, and a study's tables as Markdown, in which names are foreign text without markup."""

import html
import re
from collections.abc import Callable, Sequence
from typing import Any

from studies.measure import Record, called, group
from studies.report.glossary import sentence
from studies.report.naming import label, listed, signed, subsets, words

ExtraTable = tuple[str, list[str], list[list[str]]]  # title, head, body
BASELINE = "NoSteering"
NOTHING = ("\u2013", "")


def matrix(records: Sequence[Record], metric: str) -> dict[str, Any]:
    """One metric as methods by subsets, with the difference to the baseline over all subsets.

    `sizes` are the examples that each column stands on; "n" and "seeds" are `varied` where methods differ in them.
    A method that does not apply has a line that says why.
    """
    chosen = [record for record in records if record["metric"] == metric]
    ran = [record for record in chosen if not record.get("refusal")]
    baseline = chosen[0].get("baseline", BASELINE)
    columns = subsets(ran)
    lines = []
    for first in listed(chosen):
        cells = {record["subset"]: record for record in chosen if group(record) == group(first)}
        whole = cells.get(columns[0], first)
        lines.append(
            {
                "label": label(first, chosen),
                "setting": _setting(first),
                "n": whole["n"],
                "seeds": whole["seeds"],
            }
            | {"cells": [_cell(cells.get(name), "value", "low", "high", "{:.3f}".format) for name in columns]}
            | {"difference": NOTHING if called(whole) == baseline else _difference(whole)}
        )
    return {
        "metric": metric,
        "sentence": sentence(metric, str(chosen[0].get("task", ""))),
        "baseline": baseline,
        "columns": columns,
        "sizes": [_size([record for record in ran if record["subset"] == name]) for name in columns],
        "varied": [name for name in ("n", "seeds") if len({line[name] for line in lines if line["n"] or not ran}) > 1],
        "lines": lines,
    }


def _size(records: Sequence[Record]) -> str:
    """ "n = 180", or "n = 12 to 180" where methods differ, and of how many images where these are fewer."""
    counts = sorted({record["n"] for record in records})
    units = max((record.get("units") or record["n"] for record in records), default=0)
    text = " to ".join(f"{count:,}" for count in (counts[:1] + counts[1:][-1:]))
    return f"n = {text}" + (f", {units:,} images" if counts and units < counts[-1] else "")


def _cell(record: Record | None, value: str, low: str, high: str, form: Callable[[float], str]) -> tuple[str, str]:
    """("0.925", "0.912 to 0.937"), or NOTHING where the metric is not defined."""
    if record is None or record.get(value) is None:
        return NOTHING
    if record.get(low) is None:
        return form(record[value]), ""
    return form(record[value]), f"{form(record[low])} to {form(record[high])}"


def _difference(record: Record) -> tuple[str, str]:
    return _cell(record, "difference", "difference_low", "difference_high", signed)


def _setting(record: Record) -> str:
    if refusal := record.get("refusal"):
        return f"does not apply: {refusal}"
    parts = [f"strength {record['strength']}"] if record["strength"] else []
    parts += [f"reads {record['reads']}"] if record["reads"] is not None else []
    parts += [f"writes {record['writes']}"] if record["writes"] is not None else []
    return ", ".join(parts)


def markdown(
    title: str,
    sentences: Sequence[str],
    extra_tables: Sequence[ExtraTable],
    tables: Sequence[dict[str, Any]],
    about: str,
    skipped: int,
    cost: str,
    flaws: Sequence[str] = (),
) -> str:
    """Every metric as a Markdown table: value [95% interval]. `flaws` are of the data as a whole."""
    parts = [f"# {safe(title)}", " ".join(map(safe, sentences))]
    for name, head, body in extra_tables:
        parts += [
            f"## {safe(name)}",
            lines_of([head, ["---"] * len(head), *([safe(c) for c in line] for line in body)]),
        ]
    for table in tables:
        whole, *parts_of_it = (f"{name} ({n})" for name, n in zip(table["columns"], table["sizes"], strict=True))
        head = ["method", "setting", whole, f"difference to {table['baseline']}", *parts_of_it, "n", "seeds"]
        body = [
            [safe(line["label"]), safe(line["setting"])]
            + [joined(cell) for cell in (line["cells"][0], line["difference"], *line["cells"][1:])]
            + [f"{line['n']:,}", str(line["seeds"])]
            for line in table["lines"]
        ]
        lines = [[safe(name) for name in head], ["---"] * 2 + ["---:"] * (len(head) - 2), *body]
        parts += [
            f"## {safe(words(table['metric']))}",
            *([safe(table["sentence"])] if table["sentence"] else []),
        ]
        parts.append(lines_of(lines))
    parts += map(safe, flaws)
    parts.append(
        "In brackets: 95% percentile bootstrap interval over examples, those about one image drawn together, and over "
        "seeds where a method ran with several. "
        f"{safe(about)}. Skipped items: {skipped}." + (f" Cost: {safe(cost)}." if cost else "")
    )
    return "\n\n".join(parts) + "\n"


def lines_of(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def joined(cell: tuple[str, str]) -> str:
    return f"{cell[0]} [{cell[1]}]" if cell[1] else cell[0]


def safe(text: object) -> str:
    """Foreign text inside Markdown: on one line, with no markup, link, HTML or end of a table cell."""
    line = html.escape(" ".join(str(text).split()), quote=False)
    return re.sub(r"([\\`*\[\]|~]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))", r"\\\1", line)

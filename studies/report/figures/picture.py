"""One input and every method's answer as a picture: what a README or a slide shows first."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from studies.measure import Row
from studies.report.figures.style import LIGHT, Theme
from studies.report.naming import label, listed

RIGHT, WRONG = ("\u2713", "#0b7d69"), ("\u2717", "#c8500a")


def comparison_picture(rows: Sequence[Row], image: str | Path | Image.Image, *, theme: Theme = LIGHT) -> Figure:
    """The image beside the question, then a line for each method: its answer, with a tick if right, else a cross.

    `rows` are of one example. Of several seeds of a method the first is shown. Raises ValueError for several examples.
    """
    if len(ids := sorted({str(row["id"]) for row in rows})) != 1:
        raise ValueError(
            f"A comparison picture shows one example, not {len(ids)} ({', '.join(ids[:3])}): filter by id."
        )
    answers = listed(sorted(rows, key=lambda row: row["seed"]))
    shown = [textwrap.wrap(_literal(row["reply"]), 56, max_lines=2) or ["(nothing)"] for row in answers]
    question = textwrap.wrap(_literal(answers[0]["question"]), 60, max_lines=3)
    height = 0.62 + 0.26 * len(question) + sum(0.18 + 0.2 * len(lines) for lines in shown)
    figure = Figure(figsize=(10.2, max(height, 2.9)), facecolor=theme.paper)
    width, full = figure.get_size_inches()
    side = min(3.6, full - 0.4)
    frame = figure.add_axes((0.2 / width, 1 - (0.2 + side) / full, side / width, side / full), anchor="NW")
    frame.imshow(image if isinstance(image, Image.Image) else Image.open(image), interpolation="bicubic")
    frame.set_axis_off()
    text = figure.add_axes((4.1 / width, 0, 1 - 4.3 / width, 1), xlim=(0, width - 4.3), ylim=(full, 0))
    text.set_axis_off()
    y = 0.36
    for line in question:
        text.text(0, y, line, fontsize=13, weight="bold", color=theme.ink)
        y += 0.26
    text.text(0, y + 0.04, f"right answer: {_literal(answers[0]['target'])}", fontsize=11, color=RIGHT[1])
    y += 0.46
    for row, lines in zip(answers, shown, strict=True):
        mark, color = RIGHT if row["parsed"] == row["target"] else WRONG
        text.axhline(y - 0.24, color=theme.rule, lw=0.7)
        text.text(0.02, y, mark, fontsize=11, color=color, weight="bold")
        text.text(0.27, y, label(row, answers), fontsize=9.5, color=theme.muted)
        for index, line in enumerate(lines):
            text.text(1.85, y + 0.2 * index, line, fontsize=10.5, color=theme.ink)
        y += 0.18 + 0.2 * len(lines)
    return figure


def _literal(text: object) -> str:
    """As matplotlib shows it unchanged: a dollar sign would start a formula."""
    return str(text).replace("$", r"\$")

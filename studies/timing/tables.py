"""What was timed as Markdown and as a figure, with the machine named."""

import datetime
import os
from collections.abc import Sequence
from typing import Any

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from studies.report.figures.style import LIGHT
from studies.report.naming import COLORS
from studies.run.provenance import commit, runs_on, versions

Record = dict[str, Any]
TICKS = (0.5, 1, 2, 5, 10, 20, 50)  # times as fast


def machine(device: str) -> dict[str, Any]:
    """Processor or GPU, cores and threads, versions, commit and day."""
    where = runs_on() | ({"processor": torch.cuda.get_device_name(device)} if device.startswith("cuda") else {})
    return where | {
        "cores": os.cpu_count(),
        "versions": versions(),
        "commit": commit(),
        "day": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def markdown(result: dict[str, Any]) -> str:
    """The section of a run: machine, times, memory."""
    where = result["machine"]
    packages = ", ".join(f"{name} {number}" for name, number in where["versions"].items())
    lines = [
        f"### {result['model']}, {result['dtype']}",
        "",
        f"{where['processor']}, {where['cores']} cores, {where['threads']} threads of torch; {packages}; "
        f"commit {(where['commit'] or 'unknown')[:12]}, {where['day']}.",
        "",
    ]
    if result["times"]:
        lines += [
            "| what | who | median seconds | times as fast (least to most) | rounds |",
            "| --- | --- | ---: | ---: | ---: |",
            *(
                f"| {r['what']} | {r['who']} | {r['seconds']:.4f} | {r['ratio']:.2f} ({r['low']:.2f}-{r['high']:.2f}) "
                f"| {r['rounds']} |"
                for r in result["times"]
            ),
            "",
            "Checked in the same run: "
            + "; ".join(f"{what}: {equal}" for what, equal in {r["what"]: r["equal"] for r in result["times"]}.items())
            + ".",
            "",
            *_first_token(result["times"]),
            *_by_method(result["times"]),
        ]
    if result["memory"]:
        lines += [
            "| what | pairs | seconds | peak, MB | formula, MB |",
            "| --- | ---: | ---: | ---: | ---: |",
            *(
                f"| {r['what']} | {r['pairs']:,} | {r['seconds']:.1f} | {r['peak'] / 1e6:.0f} "
                f"| {r['formula'] / 1e6:.0f} |"
                for r in result["memory"]
            ),
            "",
        ]
    return "\n".join(lines)


def _first_token(times: Sequence[Record]) -> list[str]:
    """How much later the first token comes than without steering, in decode steps of the unsteered model."""
    found = {(r["what"].split(",")[0], r["who"]): r["seconds"] for r in times}
    plain, ours = "unsteered generate", "this toolkit, L2S"
    if ("64 tokens", plain) not in found or ("first token", plain) not in found:
        return []
    step = (found["64 tokens", plain] - found["first token", plain]) / 63
    later = found["first token", ours] - found["first token", plain]
    return [
        f"The first token comes {1000 * abs(later):.1f} ms {'later' if later >= 0 else 'earlier'} than unsteered; "
        f"a decode step takes {1000 * step:.1f} ms.",
        "",
    ]


def _by_method(times: Sequence[Record]) -> list[str]:
    """How many times as long a reply takes by each method as an unsteered one, quickest first."""
    ours = [r for r in times if r["what"].endswith("by method") and r["who"].startswith("this toolkit, ")]
    if not ours:
        return []
    ours.sort(key=lambda record: -record["ratio"])
    named = [f"{record['who'].removeprefix('this toolkit, ')} {1 / record['ratio']:.2f}" for record in ours]
    return [f"A reply takes, in multiples of an unsteered one: {', '.join(named)}.", ""]


def placed(page: str, name: str, section: str) -> str:
    """The page with this run's section in its place. Raises ValueError where the page has no place for it."""
    start, end = f"<!-- measured: {name} -->", f"<!-- end: {name} -->"
    if start not in page or end not in page:
        raise ValueError(f"The page has no place for these numbers; put the lines {start!r} and {end!r} into it.")
    before, _, rest = page.partition(start)
    return f"{before}{start}\n{section.strip()}\n{end}{rest.partition(end)[2]}"


def figure(result: dict[str, Any]) -> Figure:
    """A panel for each contest: how many times as fast as its first contestant everyone is, on a common log scale."""
    times = result["times"]
    names = list(dict.fromkeys(record["what"] for record in times)) or ["nothing was timed"]
    panels = [[record for record in times if record["what"] == name] for name in names]
    heights = [0.5 + 0.3 * len(panel) for panel in panels]
    drawn = Figure(figsize=(8.6, sum(heights) + 0.6), facecolor=LIGHT.paper, layout="constrained")
    axes = drawn.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for ax, name, panel in zip(axes, names, panels, strict=True):
        for place, record in enumerate(panel):
            ours = "toolkit" in record["who"]
            color = COLORS["L2S"] if ours else COLORS["NoSteering"]
            ax.barh(place, record["ratio"], color=color, height=0.62)
            ax.plot((record["low"], record["high"]), (place, place), color=LIGHT.ink, lw=1)
            text = f" {record['ratio']:.2f}x   {record['seconds']:.3g} s"
            ax.text(
                max(record["high"], record["ratio"]),
                place,
                text,
                va="center",
                fontsize=8,
                color=LIGHT.muted,
                bbox={"facecolor": LIGHT.paper, "edgecolor": "none", "pad": 0.5},  # covers the line of 1
            )
        ax.set_yticks(range(len(panel)), [record["who"] for record in panel], fontsize=8, color=LIGHT.ink)
        ax.set_title(name, fontsize=9.5, loc="left", color=LIGHT.ink, weight="bold")
        ax.invert_yaxis()
        ax.set_xscale("log")
        ax.set_xticks(TICKS, [f"{tick:g}x" for tick in TICKS])
        ax.xaxis.set_minor_locator(NullLocator())
        ax.axvline(1, color=LIGHT.muted, lw=0.8)
        ax.spines[["top", "right", "left"]].set_visible(False)
        ax.tick_params(axis="both", length=0, labelcolor=LIGHT.muted)
        ax.tick_params(axis="y", labelcolor=LIGHT.ink)
        ax.margins(x=0.25)
    axes[-1].set_xlabel("times as fast as the first of each panel", fontsize=8.5, color=LIGHT.muted)
    return drawn

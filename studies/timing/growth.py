"""How time and memory grow: capture, fit, sweep and table at 1, 4, 16 and 64 times the size.

    python -m studies.timing.growth --write docs/performance.md

Each size is measured in a process of its own, forked from one that holds the model, on one thread: seconds of the
processor, which other programs leave alone, and the peak of the process's own memory over what it began with.
"""

import json
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from time import process_time
from typing import Any

import torch
import tyro
from matplotlib.figure import Figure

from interv import VLM
from methods import L2S, ShardedContrasts, capture_contrasts
from methods.asking import ask
from studies.measure import YES_NO, Row, table
from studies.report.figures.style import LIGHT
from studies.run.answer import side_by_side
from studies.run.results import write_json, write_text
from studies.tasks import TASKS
from studies.timing.memory import clock, held, watched
from studies.timing.scale import plant, store_of
from studies.timing.tables import machine, placed

FACTORS = (1, 4, 16, 64)
PAIRS, CONTRASTS, WIDTH, SETTINGS, PROMPTS, EXAMPLES, METHODS = 15, 1000, 256, 2, 8, 250, 3


@dataclass(frozen=True)
class Arguments:
    """Measure how time and memory grow with the size."""

    factors: tuple[int, ...] = FACTORS
    out: Path = Path("results/growth")
    write: Path | None = None  # a Markdown page whose measured part is replaced; the figure lands beside it


Work = Callable[[], Any]  # what is measured at one size; what it needs is made before


def capture(vlm: VLM, factor: int, folder: str) -> Work:
    """Contrasts of so many pairs at all layers, into a folder of shards."""
    pairs = TASKS["shapes_pope"]().pairs("train")[: PAIRS * factor]
    return lambda: capture_contrasts(vlm, pairs, batch_size=8, pool="mean", progress=False, out=folder)


def fit(vlm: VLM, factor: int, folder: str) -> Work:
    """One epoch of L2S, singular vectors too, on contrasts in shards."""
    apart(lambda: plant(folder, CONTRASTS * factor, WIDTH))  # whose freed memory would hide what the fit takes
    store = store_of(folder, CONTRASTS * factor, WIDTH)
    shards = ShardedContrasts(tuple(store.read(number).at(0, 0) for number in range(len(store))))
    return lambda: L2S.fit(shards, epochs=1)


def sweep(vlm: VLM, factor: int, folder: str) -> Work:
    """So many settings of a few prompts behind one prefill, as many at once as in the studies."""
    prompts = [example.prompt for example in TASKS["shapes_pope"]().prompts("val")[:PROMPTS]]
    generator = torch.Generator().manual_seed(0)
    shapes = ((8, vlm.d_model), (8,), (vlm.d_model, 8))
    weight, bias, head = (0.1 * torch.randn(*shape, generator=generator) for shape in shapes)
    steerer = L2S(3, 4, "", weight, bias, head)
    strengths = [0.01 * (1 + number) for number in range(SETTINGS * factor)]
    together, _ = side_by_side(len(strengths), 64)

    def run() -> None:
        asked = ask(vlm, prompts, [steerer])
        for start in range(0, len(strengths), together):
            runs = [asked.run(steerer, strength) for strength in strengths[start : start + together]]
            asked.answered(vlm, runs, max_new_tokens=12)

    return run


def tabled(vlm: VLM, factor: int, folder: str) -> Work:
    """The table of three methods on so many examples, with intervals and paired differences."""
    rows = [_row(method, number) for method in range(METHODS) for number in range(EXAMPLES * factor)]
    return lambda: table(rows, YES_NO)


def _row(method: int, number: int) -> Row:
    said = ("yes", "no")[(number * (method + 3) // 7) % 2]
    named = {"method": "NoSteering" if method == 0 else f"M{method}", "strength": None, "reads": None, "writes": None}
    asked = {"id": str(number), "unit": str(number), "subset": "s", "task": "t", "split": "test", "question": "?"}
    return named | asked | {"seed": 0, "target": ("yes", "no")[number % 2], "parsed": said, "valid": True, "reply": ""}


KINDS: dict[str, tuple[Callable[[VLM, int, str], Work], str]] = {
    "capture": (capture, f"{PAIRS} pairs, 8 layers, into a folder"),
    "fit": (fit, f"{CONTRASTS:,} contrasts of width {WIDTH}, one epoch"),
    "sweep": (sweep, f"{SETTINGS} settings x {PROMPTS} prompts"),
    "table": (tabled, f"{EXAMPLES} examples x {METHODS} methods"),
}


def measured(vlm: VLM, kind: str, factor: int) -> dict[str, Any]:
    """One size, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        work, before = KINDS[kind][0](vlm, factor, folder), held()[0]
        with watched() as peak, clock(process_time) as taken:
            work()
    return {"kind": kind, "factor": factor, "seconds": taken[0], "peak": peak.own - before}


def apart(work: Work) -> Any:
    """What the work gives, done by a process that is forked for it. Raises EOFError where it fails."""
    forking = get_context("fork")
    receiving, sending = forking.Pipe(duplex=False)
    process = forking.Process(target=lambda: sending.send(work()))
    process.start()
    sending.close()
    result = receiving.recv()
    process.join()
    return result


def growth(arguments: Arguments) -> list[dict[str, Any]]:
    """Measure all kinds at all sizes, and write JSON, the figure and the table."""
    torch.set_num_threads(1)
    vlm, records = VLM.load("tiny-llava"), []
    for kind in KINDS:
        for factor in arguments.factors:
            records.append(apart(partial(measured, vlm, kind, factor)))
            print(json.dumps(records[-1]), flush=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_json(arguments.out / "growth.json", {"machine": machine("cpu"), "records": records})
    write_text(arguments.out / "growth.md", section(records, machine("cpu")))
    drawn(records).savefig(arguments.out / "growth.png", dpi=160)
    if arguments.write is not None:
        text = placed(arguments.write.read_text(), "growth", section(records, machine("cpu")))
        write_text(arguments.write, text)
        drawn(records).savefig(arguments.write.with_name("growth.png"), dpi=160)
    return records


def slope(records: Sequence[dict[str, Any]]) -> float:
    """The power of the size that the seconds grow by, from the second size to the last: 1 is linear."""
    (first, *_, last) = records[min(1, len(records) - 2) :]
    return math.log(last["seconds"] / first["seconds"]) / math.log(last["factor"] / first["factor"])


def section(records: Sequence[dict[str, Any]], where: dict[str, Any]) -> str:
    lines = [
        f"{where['processor']}, one thread; seconds of the processor; commit {(where['commit'] or 'unknown')[:12]}, "
        f"{where['day']}.",
        "",
        "| what | times | seconds | power of the size | peak, MB |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for kind, (_, what) in KINDS.items():
        own = [record for record in records if record["kind"] == kind]
        for number, record in enumerate(own):
            power = f"{slope(own):.2f}" if number == len(own) - 1 and number else ""
            name = f"{kind}: {what}" if number == 0 else ""
            lines.append(
                f"| {name} | {record['factor']} | {record['seconds']:.2f} | {power} | {record['peak'] / 1e6:.0f} |"
            )
    return "\n".join(lines)


def drawn(records: Sequence[dict[str, Any]]) -> Figure:
    """Seconds and peak memory over the size, on logarithmic scales, with a line of slope one."""
    figure = Figure(figsize=(8.6, 3.4), facecolor=LIGHT.paper, layout="constrained")
    axes = figure.subplots(1, 2)
    for ax, name, unit, label in zip(axes, ("seconds", "peak"), (1, 1e6), ("seconds", "MB, peak"), strict=True):
        for kind, color in zip(KINDS, ("#0072b2", "#d55e00", "#009e73", "#cc79a7"), strict=True):
            own = [record for record in records if record["kind"] == kind]
            sizes, values = [r["factor"] for r in own], [max(r[name] / unit, 0.01) for r in own]
            ax.plot(sizes, values, marker="o", ms=4, color=color, lw=1.4)
            ax.annotate(kind, (sizes[-1], values[-1]), (5, 0), textcoords="offset points", fontsize=8.5, color=color)
            if name == "seconds":
                ax.plot(sizes, [values[0] * size / sizes[0] for size in sizes], color=LIGHT.rule, lw=1, zorder=0)
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.set_xticks(sizes, [f"{size}x" for size in sizes])
        ax.set_title(label, fontsize=9.5, loc="left", color=LIGHT.ink, weight="bold")
        ax.margins(x=0.22)
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelcolor=LIGHT.muted, labelsize=8)
    axes[0].text(0.02, 0.94, "grey: linear", transform=axes[0].transAxes, fontsize=8, color=LIGHT.muted)
    return figure


if __name__ == "__main__":
    growth(tyro.cli(Arguments, description=__doc__))

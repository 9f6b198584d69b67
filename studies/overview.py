"""Every method on every task and model: what does it reach, and what does it cost?

    python studies/overview.py results/methods/* --tuned results/finetuning/* --write docs/methods.md

Reads what `compare.py --methods all`, `finetuning.py` and `speed.py` have left, and no model. `make methods` runs them
all.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from more_itertools import map_reduce, unique_everseen

from studies.fit.fitting import SECONDS
from studies.measure import ALL, Record
from studies.report.naming import COLORS, words
from studies.report.tables import NOTHING, lines_of
from studies.run.command_line import run_study
from studies.run.results import write_text
from studies.timing.tables import placed

PLACE = "methods"  # of the table in the page
# Beside each task's objective: what it is easily bought with. None of these is chosen by.
BESIDE = {"shapes_pope": ("yes_ratio", "valid"), "shapes_safety": ("over_refusal", "valid")}


@dataclass(frozen=True)
class Arguments:
    """Write one table of all methods from finished studies."""

    compared: Annotated[tuple[Path, ...], tyro.conf.Positional]  # folders of compare.py
    tuned: tuple[Path, ...] = ()  # folders of finetuning.py
    speed: Path = Path("results/speed/random-40m-cpu.json")  # of speed.py; without it replies have no price
    write: Path | None = None  # a Markdown page whose measured part is replaced


@dataclass(frozen=True)
class Study:
    """One finished folder."""

    folder: Path

    def read(self, name: str) -> Any:
        """Raises ValueError where the study was not run to its end."""
        if not (self.folder / name).exists():
            raise ValueError(f"{self.folder} has no {name}; run its study to the end first.")
        return json.loads((self.folder / name).read_text(encoding="utf-8"))

    @property
    def records(self) -> list[Record]:
        return [record for record in self.read("table.json") if record["subset"] == ALL]

    @property
    def task(self) -> str:
        return self.records[0]["task"]

    @property
    def model(self) -> str:
        return Path(self.read("recipe.json")["settings"]["recipe"]["model"]).name

    @property
    def seconds(self) -> dict[str, float]:
        """By method the longest of its fits: what several share is made in the first."""
        found = map_reduce(
            self.folder.glob(f"fits/*/*/{SECONDS}"),
            lambda file: file.parent.name.partition("-reads-")[0],
            lambda file: json.loads(file.read_text()),
            max,
        )
        return dict(found)

    @property
    def bytes(self) -> dict[str, int]:
        """By method the size of its tensors as they are kept."""
        return {
            folder.name: sum(file.stat().st_size for file in folder.rglob("steerer.safetensors"))
            for folder in (self.folder / "steerers").iterdir()
        }


def overview(arguments: Arguments) -> str:
    """The tables as Markdown. Raises ValueError for a folder without a finished study, or a page without a place."""
    compared, tuned = ([Study(folder) for folder in folders] for folders in (arguments.compared, arguments.tuned))
    sections = []
    for task in unique_everseen(study.task for study in compared):
        own = [study for study in (*compared, *tuned) if study.task == task]
        sections += [f"### {task}", lines_of(reached(task, own))]
    sections += ["### What they cost", lines_of(costs(compared, tuned, by_method(arguments.speed)))]
    text = "\n\n".join(sections) + "\n"
    if arguments.write is not None:
        write_text(arguments.write, placed(arguments.write.read_text(encoding="utf-8"), PLACE, text))
    print(text)
    return text


def reached(task: str, studies: Sequence[Study]) -> list[list[str]]:
    """A line a method: for each model its objective with interval and what lies beside it."""
    models = list(unique_everseen(study.model for study in studies))
    records = {model: [r for study in studies if study.model == model for r in study.records] for model in models}
    first = records[models[0]][0]["metric"]
    metrics = (first, *BESIDE.get(task, ("valid",)))
    head = ["method", *(f"{model}: {words(metric)}" for model in models for metric in metrics)]
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    for method in ordered({record["method"] for own in records.values() for record in own}):
        cells = []
        for model in models:
            own = {record["metric"]: record for record in records[model] if record["method"] == method}
            own |= {"over_refusal": turned(own["benign_answered"])} if "benign_answered" in own else {}
            cells += [interval(own.get(metric)) if metric != "valid" else bare(own.get(metric)) for metric in metrics]
        lines.append([method, *cells])
    return lines


def turned(record: Record) -> Record:
    """The share that is left to one."""
    if record["value"] is None:
        return record
    return record | {"value": 1 - record["value"], "low": 1 - record["high"], "high": 1 - record["low"]}


def costs(compared: Sequence[Study], tuned: Sequence[Study], replies: dict[str, float]) -> list[list[str]]:
    """A line a method: the longest of its fits, a reply in multiples of an unsteered one, and memory."""
    seconds: dict[str, float] = {}
    held: dict[str, float] = {}
    for study in compared:
        for method, spent in study.seconds.items():
            seconds[method] = max(spent, seconds.get(method, 0.0))
        for method, size in study.bytes.items():
            held[method] = max(size, held.get(method, 0.0))
    for study in tuned:
        for method, price in study.read("finetuning.json").items():
            seconds[method] = max(price["seconds"], seconds.get(method, 0.0))
            held[method] = max(price["held_bytes"], held.get(method, 0.0))
    lines = [["method", "fit, seconds", "a reply, times unsteered", "memory, kB"], ["---", "---:", "---:", "---:"]]
    for method in ordered({*seconds, *held}):
        times = 1.0 if method in ("LoRA", "FullFineTuning") else replies.get(LIKE.get(method, method))
        lines.append(
            [
                method,
                f"{seconds[method]:.1f}" if method in seconds else NOTHING[0],
                NOTHING[0] if times is None else f"{times:.2f}",
                f"{held[method] / 1e3:,.1f}" if method in held else NOTHING[0],
            ]
        )
    return lines


# What was timed in another's place, which does the same in a reply.
LIKE = dict.fromkeys(("NormRnd", "MeanSteeringBA", "P2S", "ConstantDirection"), "MeanSteering") | {
    "RandomHeads": "ADHH"
}


def by_method(file: Path) -> dict[str, float]:
    """What a reply takes by each method, in multiples of an unsteered one."""
    if not file.exists():
        return {}
    times = json.loads(file.read_text(encoding="utf-8"))["times"]
    own = [record for record in times if record["what"].endswith("by method")]
    return {"NoSteering": 1.0} | {record["who"].rpartition(", ")[2]: 1 / record["ratio"] for record in own[1:]}


def ordered(methods: set[str]) -> list[str]:
    """As all tables have them; others last, by name."""
    place = {name: number for number, name in enumerate(COLORS)}
    return sorted(methods, key=lambda name: (place.get(name, len(place)), name))


def interval(record: Record | None) -> str:
    if record is None or record["value"] is None:
        return NOTHING[0] if record is None or "refusal" not in record else "does not apply"
    return f"{record['value']:.3f} [{record['low']:.3f} to {record['high']:.3f}]"


def bare(record: Record | None) -> str:
    return NOTHING[0] if record is None or record["value"] is None else f"{record['value']:.3f}"


def main() -> None:
    run_study("overview", overview, Arguments, __doc__)


if __name__ == "__main__":
    main()

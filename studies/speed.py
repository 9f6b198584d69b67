"""What does steering cost? The published procedure, plain nnsight and this toolkit, side by side in one process.

    python studies/speed.py --model random-40m
    python studies/speed.py --model random-7b --device cuda --dtype bfloat16 --items 8

Every figure is the median over rounds in which the contestants take turns, so that a machine that slows down slows
all of them. Contestants must agree before they are timed.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import rich
import torch
from rich.table import Table

from studies.run.arguments import check_arguments, known
from studies.run.checkpoint import check_device, check_dtype
from studies.run.command_line import run_study
from studies.run.results import write_json, write_text
from studies.timing import contests, replies, scale
from studies.timing.models import EMBEDDED, SIZES, Contestants, contestants, pairs
from studies.timing.rounds import timed
from studies.timing.served import served
from studies.timing.tables import figure, machine, markdown, placed

Kind = Literal["capture", "sweep", "generation", "methods", "hooks", "training", "scale"]


@dataclass(frozen=True)
class Arguments:
    """Time capture, a sweep, replies by each method and training, and measure what capture and training hold."""

    model: str = "random-40m"  # or random-7b (LLaVA-1.5-7B's shape), with 576 image tokens; or an embedded model
    device: str = "cpu"
    dtype: str = "float32"
    contests: tuple[Kind, ...] = ("capture", "sweep", "generation", "methods", "hooks", "training", "scale")
    items: int = 2  # contrast pairs in a capture
    questions: int = 6  # contrast pairs about one image; in POPE's three files there are up to 18
    layers: int = 12  # layers of the capture sweep
    settings: int = 20  # configurations of the decoding sweep
    batches: tuple[int, ...] = (1, 16)  # prompts replied to at once
    vllm: Path | None = None  # a python that has vLLM: .serving/venv/bin/python, which `make test-serving` makes
    rounds: int = 7
    train_pairs: int = 1228  # MM-SafetyBench's
    train_width: int = 4096  # LLaVA-1.5-7B's
    epochs: int = 100
    dictionary_iterations: int = 30  # at most 5,000 in the published code, which takes hours
    scale_pairs: tuple[int, ...] = (4, 16)  # captured to disk, each number in a process of its own
    scale_rows: tuple[int, ...] = (16000, 100000)  # contrasts in shards (5 GB on disk) that one epoch of L2S trains on
    threads: int | None = None  # torch's own choice
    out: Path = Path("results/speed")
    write: Path | None = None  # a Markdown page whose measured part is replaced, and the figure that it shows


def held(arguments: Arguments, on: Contestants) -> Iterator[contests.Contest]:
    """The contests that are asked for, one by one."""
    items = pairs(arguments.items)
    step = max(1, on.vlm.n_layers // arguments.layers)
    layers = list(range(on.vlm.n_layers - 1, -1, -step))[: arguments.layers][::-1]
    if "capture" in arguments.contests:
        yield contests.capture_contest(on, items, layers[-1:])
        yield contests.capture_contest(on, pairs(1, arguments.questions), layers[-1:], "image")
        yield contests.capture_contest(on, items[:1], layers)
    if "sweep" in arguments.contests:
        yield contests.sweep_contest(on, items, arguments.settings)
    prompts = [pair.prompt for pair in pairs(max(arguments.batches))]
    if "generation" in arguments.contests:
        steerer = contests.l2s(on, items)
        with served(arguments.vllm, on, prompts, steerer) if arguments.vllm else nullcontext() as engine:
            for batch in arguments.batches:
                yield replies.generation_contest(on, prompts[:batch], steerer, 64 if batch == 1 else 32, engine)
            yield replies.generation_contest(on, prompts[:1], steerer, 1, engine)
    if "methods" in arguments.contests:
        yield replies.methods_contest(on, items, 32)
    if "hooks" in arguments.contests:
        yield contests.cache_contest(on, items, everything=False)
        yield contests.cache_contest(on, items, everything=True)
        for batch in arguments.batches:
            yield contests.edit_contest(on, prompts[:batch], 32)
    if "training" in arguments.contests:
        yield contests.training_contest(
            arguments.train_pairs, arguments.train_width, arguments.epochs, arguments.dictionary_iterations
        )


def measure(arguments: Arguments) -> dict[str, Any]:
    """Times and memory, with the machine that they were measured on."""
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    on = contestants(arguments.model, device=arguments.device, dtype=getattr(torch, arguments.dtype))
    times: list[dict[str, Any]] = []
    for contest in held(arguments, on):
        rich.print(f"{contest.what}: {contest.equal}")
        times += timed(contest, arguments.rounds)
    memory: list[dict[str, Any]] = []
    if "scale" in arguments.contests and arguments.device == "cpu":
        for kind, counts in (("capture", arguments.scale_pairs), ("training", arguments.scale_rows)):
            memory += [{"what": kind, **scale.measured(kind, arguments.model, count)} for count in counts]
    return {
        "model": arguments.model,
        "dtype": arguments.dtype,
        "machine": machine(arguments.device),
        "times": times,
        "memory": memory,
    }


def speed(arguments: Arguments) -> None:
    """Measure, and write JSON, Markdown and the figure. Raises ValueError for a model, dtype or device that is none."""
    check_arguments(arguments)
    known(arguments.model, SIZES | dict.fromkeys(EMBEDDED), "model to time")
    check_dtype(arguments.dtype)
    check_device(arguments.device)
    if min(arguments.batches, default=0) < 1:
        raise ValueError(f"--batches are {arguments.batches}; give numbers of prompts, 1 or more.")
    if arguments.vllm is not None and not arguments.vllm.exists():
        raise ValueError(f"There is no {arguments.vllm}; --vllm is the python of an environment that has vLLM.")
    result = measure(arguments)
    arguments.out.mkdir(parents=True, exist_ok=True)
    name = f"{arguments.model}-{arguments.device.partition(':')[0]}"
    if (arguments.threads or 1) > 1:
        name += f"-{arguments.threads}-threads"
    write_json(arguments.out / f"{name}.json", result)
    write_text(arguments.out / f"{name}.md", markdown(result))
    figure(result).savefig(arguments.out / f"{name}.png", dpi=160)
    if arguments.write is not None:
        page = placed(arguments.write.read_text(), name, markdown(result))
        write_text(arguments.write, page)
        if (picture := f"{arguments.write.stem}-{name}.png") in page:
            figure(result).savefig(arguments.write.with_name(picture), dpi=160)
    table = Table("what", "who", "seconds", "times as fast")
    for record in result["times"]:
        table.add_row(record["what"], record["who"], f"{record['seconds']:.4f}", f"{record['ratio']:.2f}")
    rich.print(table)
    print(f"The table is in {arguments.write or arguments.out / f'{name}.md'}")


def main() -> None:
    run_study("speed", speed, Arguments, __doc__)


if __name__ == "__main__":
    main()

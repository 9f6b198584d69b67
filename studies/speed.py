"""What does steering cost? The published procedure, plain nnsight and this toolkit, side by side in one process.

    python studies/speed.py --model random-40m

Every figure is the median over rounds in which the contestants take turns, so that a machine that slows down slows
all of them. Contestants must agree before they are timed.
"""

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rich
import torch
import tyro
from rich.table import Table

from interv import VLM, Site, stack
from methods import L2S, ContrastPair, Query, capture_contrasts, steer
from studies.parts.results import versions, write_json
from studies.timing import published
from studies.timing.models import SIZES, pairs, random_llava

Contest = dict[str, Callable[[], Any]]


@dataclass(frozen=True)
class Arguments:
    """Time capture, a sweep, and steered generation."""

    model: str = "random-40m"  # random-40m or random-7b (LLaVA-1.5-7B's shape), both with 576 image tokens
    device: str = "cpu"
    dtype: str = "float32"
    items: int = 4  # contrast pairs in a capture
    layers: int = 12  # layers of the capture sweep
    settings: int = 20  # configurations of the decoding sweep
    rounds: int = 5
    out: Path = Path("results/speed")


def measure(arguments: Arguments) -> list[dict[str, Any]]:
    """The records of the table: what was timed, for whom, median seconds, and how often faster than the first."""
    vlm = random_llava(arguments.model, device=arguments.device, dtype=getattr(torch, arguments.dtype))
    items = pairs(arguments.items)
    step = max(1, vlm.n_layers // arguments.layers)
    layers = list(range(0, vlm.n_layers, step))[: arguments.layers]
    records = []
    for name, contest, rounds in (
        ("capture of one layer", capture_contest(vlm, items, layers[-1:]), arguments.rounds),
        (f"capture of {len(layers)} layers", capture_contest(vlm, items, layers), max(2, arguments.rounds // 2)),
        (f"{arguments.settings} settings x 8 tokens", sweep_contest(vlm, items, arguments.settings), arguments.rounds),
        ("64 tokens, steered by L2S", generation_contest(vlm, items, 64), arguments.rounds),
        ("first token, steered by L2S", generation_contest(vlm, items, 1), arguments.rounds),
    ):
        records += [{"what": name, **record} for record in timed(contest, rounds)]
    return records


def capture_contest(vlm: VLM, items: Sequence[ContrastPair], layers: Sequence[int]) -> Contest:
    """Contrasts of the last token; the toolkit one pair at a time as well, which is the fair comparison."""

    def toolkit(batch_size: int) -> Callable[[], Any]:
        return lambda: capture_contrasts(vlm, items, batch_size=batch_size, layers=layers, progress=False)

    bank, theirs = toolkit(1)(), published.capture(vlm, items, layers)
    for index, layer in enumerate(layers):
        for ours, plain in zip((bank.context, bank.positive, bank.negative), theirs[layer], strict=True):
            agree(ours[:, index], plain)
    return {
        "published procedure": lambda: published.capture(vlm, items, layers),
        "this toolkit, one pair at a time": toolkit(1),
        f"this toolkit, {len(items)} pairs at a time": toolkit(len(items)),
    }


def sweep_contest(vlm: VLM, items: Sequence[ContrastPair], settings: int) -> Contest:
    """One prompt in many settings: each in a run of its own, or all as rows of one batch behind one prefill."""
    steerer, prompt = _l2s(vlm, items), items[0].prompt
    strengths = [0.1 * (1 + number) for number in range(settings)]

    def toolkit() -> list[list[int]]:
        prefill = vlm.prefill([prompt], [Site(steerer.reads)])
        query = Query(prefill.captured[Site(steerer.reads)])
        ops = stack([steerer.ops(query, strength) for strength in strengths], 1)
        return vlm.generate(prefill.select([0] * settings), ops, max_new_tokens=8).token_ids

    def one_by_one() -> list[list[int]]:
        return [published.steered(vlm, prompt, steerer, strength, 8) for strength in strengths]

    agree_tokens(toolkit(), one_by_one())
    return {"published procedure": one_by_one, "this toolkit": toolkit}


def generation_contest(vlm: VLM, items: Sequence[ContrastPair], tokens: int) -> Contest:
    """One steered reply against plain unsteered `generate`, which is the floor."""
    steerer, prompt = _l2s(vlm, items), items[0].prompt
    ops = steerer.ops(Query(vlm.prefill([prompt], [Site(steerer.reads)]).captured[Site(steerer.reads)]))

    def with_hooks() -> list[int]:
        with vlm.installed(ops):
            return published.unsteered(vlm, prompt, tokens)

    def toolkit() -> list[int]:
        return steer(vlm, [prompt], steerer, max_new_tokens=tokens).token_ids[0]

    agree_tokens([toolkit(), with_hooks()], [published.steered(vlm, prompt, steerer, 1.0, tokens)] * 2)
    return {
        "unsteered generate": lambda: published.unsteered(vlm, prompt, tokens),
        "published procedure": lambda: published.steered(vlm, prompt, steerer, 1.0, tokens),
        "this toolkit, L2S": toolkit,
        "this toolkit, installed hooks": with_hooks,
    }


def timed(contest: Contest, rounds: int) -> list[dict[str, Any]]:
    """Median seconds of every contestant over interleaved rounds, after one that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in contest}
    for number in range(rounds + 1):
        for name, run in contest.items():
            _wait()
            start = time.perf_counter()
            run()
            _wait()
            if number:
                seconds[name].append(time.perf_counter() - start)
    first = seconds[next(iter(contest))]
    return [
        {
            "who": name,
            "seconds": statistics.median(own),
            "ratio": statistics.median(a / b for a, b in zip(first, own, strict=True)),
            "rounds": rounds,
        }
        for name, own in seconds.items()
    ]


def agree(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """Raise RuntimeError where two activations differ by more than rounding."""
    tolerance = 1e-4 if theirs.dtype == torch.float32 else 0.1
    error = float((ours.cpu().float() - theirs.cpu().float()).abs().max() / theirs.float().abs().max())
    if error > tolerance:
        raise RuntimeError(f"The contestants disagree by {error:.1e} of the largest activation; nothing was timed.")


def agree_tokens(ours: Sequence[list[int]], theirs: Sequence[list[int]]) -> None:
    if list(ours) != list(theirs):
        same = sum(a == b for a, b in zip(ours, theirs, strict=True))
        rich.print(f"[yellow]Only {same} of {len(ours)} replies agree to the last token.[/yellow]")


def _l2s(vlm: VLM, items: Sequence[ContrastPair]) -> L2S:
    bank = capture_contrasts(vlm, items, batch_size=1, progress=False)
    return L2S.fit(bank.at(reads=vlm.n_layers - 2, writes=vlm.n_layers // 2), epochs=5)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def markdown(records: Sequence[dict[str, Any]], arguments: Arguments) -> str:
    """The records as a table, with the machine that they were measured on."""
    lines = [
        f"## {arguments.model}, {arguments.dtype} on {machine(arguments.device)}",
        "",
        "| what | who | median seconds | times as fast | rounds |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    lines += [f"| {r['what']} | {r['who']} | {r['seconds']:.4f} | {r['ratio']:.2f} | {r['rounds']} |" for r in records]
    packages = ", ".join(f"{name} {number}" for name, number in versions().items())
    return "\n".join([*lines, "", f"{arguments.items} contrast pairs; {packages}.", ""])


def machine(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    model = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "")
    return f"{model.partition(': ')[2] or platform.processor()}, {torch.get_num_threads()} threads"


def main() -> None:
    arguments = tyro.cli(Arguments, description=__doc__)
    if arguments.model not in SIZES:
        raise SystemExit(f"speed: {arguments.model!r} is no model to time; there are {', '.join(SIZES)}.")
    records = measure(arguments)
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_json(arguments.out / f"{arguments.model}.json", records)
    (arguments.out / f"{arguments.model}.md").write_text(markdown(records, arguments))
    table = Table("what", "who", "seconds", "times as fast")
    for record in records:
        table.add_row(record["what"], record["who"], f"{record['seconds']:.4f}", f"{record['ratio']:.2f}")
    rich.print(table)
    rich.print(f"The table is in {arguments.out / f'{arguments.model}.md'}")


if __name__ == "__main__":
    main()

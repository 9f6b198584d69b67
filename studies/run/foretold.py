"""What a run would take, said as a table before it begins."""

from collections.abc import Sequence

import rich
from rich.box import SIMPLE_HEAD
from rich.table import Table

from studies.run.stages import Plan, Stage


def tell_plan(plan: Plan, stages: Sequence[Stage], model: str) -> None:
    """Print the stages with their sum, and what hours on a given machine follow from."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("stage", "pairs", "replies", "prefills", "steps", "image tokens", "memory", "on disk"):
        table.add_column(name, justify="left" if name == "stage" else "right", no_wrap=True)
    for stage in stages:
        numbers = (stage.pairs, stage.replies, stage.prefills, stage.steps, stage.image_tokens)
        table.add_row(stage.name, *(f"{number:,}" for number in numbers), in_words(stage.cache), in_words(stage.disk))
    rich.print(table)
    print("\n".join(said(plan, stages, model)))


def said(plan: Plan, stages: Sequence[Stage], model: str) -> list[str]:
    """The sums, in sentences."""
    sizes, lengths = plan.sizes, plan.lengths
    prefills, steps = (sum(getattr(stage, name) for stage in stages) for name in ("prefills", "steps"))
    work = 2 * sizes.parameters * lengths.tokens * prefills
    kept = sum(stage.memory for stage in stages)
    peak = sizes.weights + max(stage.cache for stage in stages)
    return [
        f"{model}: {sizes.parameters / 1e9:.2f} billion weights in {in_words(sizes.weights)}; a prompt is about "
        f"{lengths.tokens:,} tokens, {lengths.image_tokens:,} of them the image's; a reply in a batch holds "
        f"{in_words(sizes.reply(lengths.tokens, plan.max_new_tokens))}.",
        "Prefills are passes over a prompt with its image, steps forwards of a batch that decode a token; memory is "
        "what a stage holds beside the weights.",
        f"Batch size {plan.batch_size}: about {in_words(peak)} at most on the device; contrasts stay in memory, "
        f"{in_words(kept)}, and on disk.",
        f"{prefills:,} prefills are {work / 1e15:,.1f} PFLOP; {steps:,} decode steps at most, each of which reads the "
        f"weights once, are {steps * sizes.weights / 1e12:,.1f} TB. Hours follow from what the device reaches of both.",
        "Judges are not counted. Nothing was loaded and nothing was written.",
    ]


def in_words(count: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count} B" if count else ""

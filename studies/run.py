"""Answer a task's examples in many settings at once, one row a reply, written as it comes."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from interv import VLM, Add, Prompt, Site, stack
from interv.prefill import Prefill
from interv.scope import PROMPT_SCOPES
from methods import L2S, ContrastBank, NoSteering, PromptSteering, Query
from methods.steerer import Fitted
from studies.metrics import Row
from studies.parts.results import Results, key
from studies.tasks.task import Example, Split, Task


@dataclass(frozen=True)
class Setting:
    """One way of answering: a fitted method, how strongly it steers, and the seed that it was fitted with."""

    steerer: Fitted
    strength: float = 1.0
    seed: int = 0

    def columns(self) -> Row:
        """The setting's part of a row; what does not matter to the method is null."""
        adds = not isinstance(self.steerer, NoSteering | PromptSteering)
        return {
            "method": type(self.steerer).__name__,
            "strength": self.strength if adds else None,
            "reads": self.steerer.reads if isinstance(self.steerer, L2S) else None,
            "writes": self.steerer.writes if adds else None,
            "seed": self.seed,
        }


def readable(examples: Iterable[Example], results: Results) -> list[Example]:
    """The examples whose images open; the others are noted in the results by id."""
    good = []
    for example in examples:
        try:
            example.prompt.images()
            good.append(example)
        except ValueError as error:
            results.skip(example.id, str(error))
    return good


def answer(
    vlm: VLM,
    task: Task,
    split: Split,
    examples: Sequence[Example],
    settings: Sequence[Setting],
    results: Results,
    *,
    batch_size: int = 256,
    oracle: ContrastBank | None = None,
    context_of: Callable[[Prompt], Prompt] = lambda prompt: prompt,
    sampling: Mapping[str, Any] = MappingProxyType({}),
    pictured: frozenset[str] = frozenset(),
) -> None:
    """Write a row for every example in every setting, but for those that are there already.

    Each prompt runs once; its settings decode side by side as rows of one batch of at most `batch_size` replies.

    Args:
        oracle: contrasts of these very examples, for P2S.
        context_of: the prompt that the context is read from, where it is not the one that is answered.
        sampling: options of `generate` for sampled replies; the seed starts every batch, so a resumed run draws
            its part of a torn batch anew. Greedy by default.
        pictured: ids whose image is kept beside the rows for the report.
    """
    work = list(_batches(task, split, examples, settings, results, batch_size))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as progress:
        bar = progress.add_task(
            f"{split}: replies", total=sum(len(chunk) * len(group) for chunk, groups in work for group in groups)
        )
        for chunk, groups in work:
            reads = sorted({setting.steerer.reads for group in groups for setting in group})
            prompts = [groups[0][0].steerer.rewrite(example.prompt) for example in chunk]
            sites = [Site(layer) for layer in reads]
            prefill = vlm.prefill(prompts, sites)
            apart = [context_of(prompt) for prompt in prompts]
            contexts = prefill.captured if apart == prompts else vlm.capture(apart, sites)
            images = [_picture(example, results.folder) if example.id in pictured else "" for example in chunk]
            for group in groups:
                runs = []
                for setting in group:
                    steerer = setting.steerer
                    vectors = own_vectors(oracle, chunk, steerer) if oracle is not None else None
                    runs.append(steerer.ops(Query(contexts[Site(steerer.reads)], vectors), setting.strength))
                where, ops = side_by_side(prefill, prompts, runs)
                replies = vlm.generate(where, ops, max_new_tokens=task.max_new_tokens, **sampling)
                made = [
                    row_of(task, split, example, setting.columns(), replies[number * len(chunk) + i], images[i])
                    for number, setting in enumerate(group)
                    for i, example in enumerate(chunk)
                ]
                results.append(row for row in made if key(row) not in results.done)
                progress.advance(bar, len(made))


def row_of(task: Task, split: Split, example: Example, columns: Row, reply: str, image: str = "") -> Row:
    """One line of rows.jsonl."""
    return {
        "id": example.id,
        "task": task.name,
        "split": split,
        "subset": example.subset,
        "behavior": example.behavior,
        **columns,
        "question": example.prompt.question,
        "target": example.target,
        "reply": reply,
        "parsed": task.parse(reply),
        "valid": task.valid(reply),
        "image": image,
    }


def _batches(
    task: Task,
    split: Split,
    examples: Sequence[Example],
    settings: Sequence[Setting],
    results: Results,
    batch_size: int,
) -> Iterator[tuple[Sequence[Example], list[list[Setting]]]]:
    """Chunks of examples with the groups of settings that share their prefill and still lack a row there."""
    asked: dict[str, list[Setting]] = {}
    for setting in settings:
        asked.setdefault(setting.steerer.rewrite(Prompt(None, "")).question, []).append(setting)
    for alike in asked.values():
        side_by_side = min(len(alike), max(1, batch_size // 32))
        size = max(1, batch_size // side_by_side)
        for start in range(0, len(examples), size):
            chunk = examples[start : start + size]
            open_settings = [
                setting
                for setting in alike
                if any(_key(split, example, setting) not in results.done for example in chunk)
            ]
            if open_settings:
                groups = [open_settings[i : i + side_by_side] for i in range(0, len(open_settings), side_by_side)]
                yield chunk, groups


def _key(split: Split, example: Example, setting: Setting) -> tuple[Any, ...]:
    return key({"id": example.id, "split": split, **setting.columns()})


def side_by_side(
    prefill: Prefill, prompts: Sequence[Prompt], runs: Sequence[Sequence[Add]]
) -> tuple[Prefill | list[Prompt], list[Add]]:
    """What to decode from, and the ops, for several runs over the same prompts as the rows of one batch.

    Ops that reach into the prompt must run it again, images and all, so they get the prompts and not their prefill.
    """
    ops = stack(runs, len(prompts))
    if any(op.scope in PROMPT_SCOPES for op in ops):
        return [*prompts] * len(runs), ops
    return prefill.select([*range(len(prompts))] * len(runs)), ops


def own_vectors(oracle: ContrastBank, chunk: Sequence[Example], steerer: Fitted) -> Tensor:
    """The oracle's vectors of these examples at the layers of this method, in their order."""
    place = {id_: row for row, id_ in enumerate(oracle.id)}
    vectors = oracle.at(steerer.reads, steerer.writes).vectors
    return torch.stack([vectors[place[example.id]] for example in chunk])


def _picture(example: Example, folder: Path) -> str:
    """Keep the example's first image as a PNG; its name relative to the folder."""
    images = example.prompt.images()
    if not images:
        return ""
    name = f"images/{''.join(c if c.isalnum() else '-' for c in example.id)}.png"
    (folder / "images").mkdir(exist_ok=True)
    if not (folder / name).exists():
        images[0].save(folder / name)
    return name

"""Answer a task's examples in many settings at once, one row a reply, written as it comes."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol, TypeVar, runtime_checkable

from more_itertools import chunked, map_reduce
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from interv import VLM, Prompt
from interv.progress import bars
from interv.prompts.images import shown_by
from interv.prompts.rendering import PromptError
from studies.fit.method_traits import needs_vectors
from studies.fit.setting import Setting
from studies.measure import Row
from studies.run.results import Results, key
from studies.run.work import Job, Oracle, Unit, own_vectors, replied
from studies.tasks.task import Example, Split, Task

# Examples, and the settings to answer them in: each inner list is decoded as one batch.
Work = tuple[Sequence[Example], Sequence[Sequence[Setting]]]
Chunk, Group = TypeVar("Chunk"), TypeVar("Group")
LOOKED_AT = 8  # images that are tried at once
PROMPTS = 32  # in a batch at least, where there are as many: only beyond these are settings put side by side


@runtime_checkable
class Workers(Protocol):
    """Processes that answer units of work, each with the model loaded once."""

    @property
    def count(self) -> int: ...

    def answers(self, job: Job, units: Iterable[Unit]) -> Iterator[list[list[str]]]:
        """For each unit, in their order, what `replied` gives for it."""
        ...


def readable(examples: Iterable[Example], results: Results, vlm: VLM | None = None) -> list[Example]:
    """The examples whose images open and, where it is given, fit the model; the others are noted in the results by id.

    Each image is looked at once, together with others: one by one where something is wrong with some of these.
    """
    looked: dict[Hashable, str] = {}
    good = []
    for chunk in chunked(examples, LOOKED_AT):
        new = list({shown: one for one in chunk if (shown := shown_by(one.prompt)) not in looked}.items())
        fine = vlm is not None and len(new) > 1 and not _flaw([example.prompt for _, example in new], vlm)
        looked |= {shown: "" if fine else _flaw([example.prompt], vlm) for shown, example in new}
        for example in chunk:
            if looked[shown_by(example.prompt)]:
                results.skip(example.id, looked[shown_by(example.prompt)])
            else:
                good.append(example)
    return good


def _flaw(prompts: Sequence[Prompt], vlm: VLM | None) -> str:
    """Why these prompts cannot be answered, "" where they can."""
    try:
        if vlm is None:
            for prompt in prompts:
                prompt.images()
        else:
            vlm.encode(prompts)
    except PromptError as error:
        return error.reason
    except ValueError as error:
        return str(error)
    return ""


def answer(
    vlm: VLM,
    task: Task,
    split: Split,
    examples: Sequence[Example],
    settings: Sequence[Setting],
    results: Results,
    *,
    batch_size: int = 256,
    oracle: Oracle | None = None,
    context_of: Callable[[Prompt], Prompt] = lambda prompt: prompt,
    sampling: Mapping[str, Any] = MappingProxyType({}),
    pictured: frozenset[str] = frozenset(),
    workers: Workers | None = None,
) -> None:
    """Write a row for every example in every setting, but for those that are there already.

    Each prompt runs once; its settings decode side by side as rows of one batch of at most `batch_size` replies.

    Args:
        oracle: contrasts of these very examples, for P2S.
        context_of: the prompt that the context is read from, where it is not the one that is answered.
        sampling: options of `generate` for sampled replies; the seed starts every batch, so a resumed run draws
            its part of a torn batch anew. Greedy by default.
        pictured: ids whose image is kept beside the rows for the report.
        workers: other processes to decode in, which give the same rows in the same order; none by default.
    """
    work = list(_batches(task, split, examples, settings, results, batch_size))
    if workers is not None:
        work = spread(work, workers.count)
    job = Job(settings, task.max_new_tokens, sampling)
    place = {id(setting): number for number, setting in enumerate(settings)}

    def unit(chunk: Sequence[Example], groups: Sequence[Sequence[Setting]]) -> Unit:
        prompts = [groups[0][0].steerer.rewrite(example.prompt) for example in chunk]
        every = [setting.steerer for group in groups for setting in group]
        oracles = {one.writes: one for one in every if needs_vectors(type(one))}
        vectors = {} if oracle is None else {at: own_vectors(oracle, chunk, one) for at, one in oracles.items()}
        numbers = [[place[id(setting)] for setting in group] for group in groups]
        return Unit(prompts, [context_of(prompt) for prompt in prompts], numbers, vectors)

    units = (unit(chunk, groups) for chunk, groups in work)
    # One unit for several processes is quicker here than where it must be sent.
    sent = workers is not None and (len(work) > 1 or workers.count == 1)
    answers = workers.answers(job, units) if workers and sent else (replied(vlm, job, one) for one in units)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with bars(*columns) as progress:
        total = sum(len(chunk) * len(group) for chunk, groups in work for group in groups)
        bar = progress.add_task(f"{split}: replies", total=total)
        for (chunk, groups), parts in zip(work, answers, strict=True):
            images = [picture(example, results) if example.id in pictured else "" for example in chunk]
            for group, replies in zip(groups, parts, strict=True):
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
        "unit": example.unit or example.id,
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
) -> Iterator[Work]:
    """Chunks of examples with the groups of settings that share their prefill and still lack a row there."""
    for alike in map_reduce(settings, lambda setting: setting.steerer.rewrite(Prompt(None, ""))).values():
        together, size = side_by_side(len(alike), batch_size)
        for start in range(0, len(examples), size):
            chunk = examples[start : start + size]
            open_settings = [
                setting
                for setting in alike
                if any(_key(split, example, setting) not in results.done for example in chunk)
            ]
            if open_settings:
                groups = [open_settings[i : i + together] for i in range(0, len(open_settings), together)]
                yield chunk, groups


def side_by_side(settings: int, batch_size: int) -> tuple[int, int]:
    """How many of so many settings are decoded as one batch, and of how many prompts it is."""
    together = min(settings, max(1, batch_size // PROMPTS))
    return together, max(1, batch_size // together)


def _key(split: Split, example: Example, setting: Setting) -> tuple[Any, ...]:
    return key({"id": example.id, "split": split, **setting.columns()})


def spread(work: Sequence[tuple[Chunk, Sequence[Group]]], workers: int) -> list[tuple[Chunk, Sequence[Group]]]:
    """The same work in the same order, with each chunk's groups parted where there are fewer chunks than workers.

    A part runs its chunk's prompts again, so no more parts are made than keep all workers busy.
    """
    parts = max(1, -(-workers // max(1, len(work))))
    sizes = [-(-len(groups) // parts) for _, groups in work]
    return [
        (chunk, groups[start : start + size])
        for (chunk, groups), size in zip(work, sizes, strict=True)
        for start in range(0, len(groups), size)
    ]


def picture(example: Example, results: Results) -> str:
    """Keep the example's first image; its name relative to the folder, "" where it has none."""
    images = example.prompt.images()
    return results.save_image(example.id, images[0]) if images else ""

"""The readings of a study's prompts and the rows of their first words, each made once, kept in its result folder."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from interv.progress import bars
from studies.fit.selection import thinned
from studies.foresight.forecast import Share
from studies.foresight.pushes import Pushes
from studies.foresight.readings import Readings, joined, read
from studies.foresight.ways import Ways
from studies.foresight.words import Words
from studies.measure import GROUP, Row
from studies.measure.fidelity import averaged
from studies.run.answer import picture, row_of
from studies.run.bench import CAPTURED, Bench
from studies.run.results import key
from studies.tasks import Example, Split

SHARD = 512  # prompts whose readings are kept together, which is what a killed run loses at most


def readings(bench: Bench, words: Words, split: Split) -> Readings:
    """The split's readings, kept in the folder for a resumed run."""
    examples, parts = bench.examples(split), []
    with bars() as bar:
        line = bar.add_task(f"{split}: prompts", total=len(examples))
        for start in range(0, len(examples), SHARD):
            chunk, folder = examples[start : start + SHARD], bench.results.folder / "readings" / f"{split}-{start:06d}"
            if folder.exists():
                parts.append(Readings.load(folder))
            else:
                parts.append(bench.account.fit(partial(_read, bench, words, chunk)))
                parts[-1].save(folder.with_suffix(".partial"))
                folder.with_suffix(".partial").rename(folder)
            bar.advance(line, len(chunk))
    return joined(parts)


def _read(bench: Bench, words: Words, examples: Sequence[Example], size: int) -> Readings:
    return read(bench.vlm, examples, words, batch_size=min(size, CAPTURED), context_of=bench.recipe.context_prompt)


def write_answers(bench: Bench, ways: Ways, shown: int) -> None:
    """The rows of what needs no vector; `shown` images a subset go to the report."""
    answered = {"NoSteering": ways.unsteered, "LogitThreshold": ways.threshold, "LinearProbe": ways.probe}
    answered |= {} if ways.in_image is None else {"ThresholdInImage": ways.in_image}
    for method, said in answered.items():
        reads = ways.fitted.layer if method == "LinearProbe" else None
        columns = dict.fromkeys(GROUP) | {"method": method, "reads": reads, "seed": bench.common.seed}
        write_rows(bench, bench.examples("test"), columns, said, shown)


def write_rows(bench: Bench, examples: Sequence[Example], columns: Row, said: Sequence[str], shown: int) -> None:
    """A row for each answer that has none; the reply is its first word, which nobody continued."""
    kept = {example.id for example in thinned(bench.examples("test"), shown)}
    rows = []
    for example, word in zip(examples, said, strict=True):
        image = picture(example, bench.results) if example.id in kept else ""
        row = row_of(bench.task, "test", example, columns, word, image) | {"parsed": word, "valid": True}
        rows += [row] if key(row) not in bench.results.done else []
    if rows:
        bench.results.append(rows)


def push(bench: Bench, words: Words, pairs: int, size: int, shown: int) -> None:
    """The rows of the constant push, and of the oracle on a part of the test examples: `pairs` of each subset."""
    part = {split: thinned(bench.examples(split), pairs) for split in ("train", "val", "test")}
    tried = Pushes(bench.vlm, bench.task, bench.recipe, words, size)
    blocks, seed = bench.grid.writes, {"seed": bench.common.seed}
    if not covered(bench, "ConstantDirection", bench.examples("test")):
        settings = tried.constant(tried.contrasts("train", part["train"], blocks), bench.grid)
        best = tried.best(part["val"], settings)
        (said,) = tried.answers(bench.examples("test"), [best])
        write_rows(bench, bench.examples("test"), best.columns() | seed, said, shown)
    if not covered(bench, "P2S", part["test"]):
        own = {split: tried.contrasts(split, part[split], blocks) for split in ("val", "test")}
        usable = {split: [one for one in part[split] if one.id in own[split].id] for split in own}
        best = tried.best(usable["val"], tried.oracle(own["val"], bench.grid), own["val"])
        (said,) = tried.answers(usable["test"], [best], own["test"])
        write_rows(bench, usable["test"], best.columns() | seed, said, shown)


def covered(bench: Bench, method: str, examples: Sequence[Example]) -> bool:
    """Whether each of these test examples has a row of this method."""
    return {one.id for one in examples} <= {row["id"] for row in bench.rows("test") if row["method"] == method}


def reached(bench: Bench, method: str) -> Share | None:
    """The accuracy of this method's rows, None where there is none."""
    rows = [row for row in bench.rows("test") if row["method"] == method]
    if not rows:
        return None
    hits = np.array([row["parsed"] == row["target"] for row in rows], dtype=np.float64)
    found = averaged(hits, [row["unit"] for row in rows])
    return Share(*(found[name] for name in ("value", "low", "high", "n", "units")))

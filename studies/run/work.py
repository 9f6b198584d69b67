"""The unit of work of a study: prompts that share a prefill, answered in many settings. It needs a model, no task."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from interv import VLM, Add, Prompt, Site, stack
from interv.prefill import Prefill
from interv.scope import PROMPT_SCOPES
from methods import Contrasts, Query
from methods.steerer import Fitted
from studies.fit.setting import Setting
from studies.tasks.task import Example

# Contrasts of a split's examples at a context block and a steered one, whose vectors the oracle adds.
Oracle = Callable[[int, int], Contrasts]


@dataclass(frozen=True, eq=False)
class Job:
    """What the units of one call have in common; `sampling` holds options of `generate`."""

    settings: Sequence[Setting]
    max_new_tokens: int
    sampling: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Unit:
    """One prefill's work.

    Attributes:
        prompts: what is answered, as the settings rewrite it.
        apart: the prompts that the context is read from; equal to `prompts` where it is read from these.
        groups: settings by their place in the job; each group is decoded as one batch.
        vectors: the oracle's, [prompts, d_model] by steered block; empty where no setting looks at them.
    """

    prompts: Sequence[Prompt]
    apart: Sequence[Prompt]
    groups: Sequence[Sequence[int]]
    vectors: Mapping[int, Tensor]


def replied(vlm: VLM, job: Job, unit: Unit) -> Iterator[list[str]]:
    """For each group its replies as they come: setting by setting, prompt by prompt."""
    settings = [[job.settings[place] for place in group] for group in unit.groups]
    sites = [Site(layer) for layer in sorted({setting.steerer.reads for group in settings for setting in group})]
    prefill = vlm.prefill(unit.prompts, sites)
    contexts = prefill.captured if unit.apart == unit.prompts else vlm.capture(unit.apart, sites)
    for group in settings:
        runs = []
        for setting in group:
            query = Query(contexts[Site(setting.steerer.reads)], unit.vectors.get(setting.steerer.writes))
            runs.append(setting.steerer.ops(query, setting.strength))
        where, ops = side_by_side(prefill, unit.prompts, runs)
        yield list(vlm.generate(where, ops, max_new_tokens=job.max_new_tokens, **job.sampling))


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


def own_vectors(oracle: Oracle, chunk: Sequence[Example], steerer: Fitted) -> Tensor:
    """The oracle's vectors of these examples at the layers of this method, in their order."""
    contrasts = oracle(steerer.reads, steerer.writes)
    place, vectors = {id_: row for row, id_ in enumerate(contrasts.id)}, contrasts.vectors
    return torch.stack([vectors[place[example.id]] for example in chunk])

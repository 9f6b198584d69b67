"""The unit of work of a study: prompts that share a prefill, answered in many settings. It needs a model, no task."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from interv import VLM, Prompt
from methods import Contrasts
from methods.asking import ask
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
    groups = [[job.settings[place] for place in group] for group in unit.groups]
    steerers = [setting.steerer for group in groups for setting in group]
    asked = ask(vlm, unit.prompts, steerers, unit.apart)
    for group in groups:
        runs = [
            asked.run(setting.steerer, setting.strength, unit.vectors.get(setting.steerer.writes)) for setting in group
        ]
        yield list(asked.answered(vlm, runs, max_new_tokens=job.max_new_tokens, **job.sampling))


def own_vectors(oracle: Oracle, chunk: Sequence[Example], steerer: Fitted) -> Tensor:
    """The oracle's vectors of these examples at the layers of this method, in their order."""
    contrasts = oracle(steerer.reads, steerer.writes)
    place, vectors = {id_: row for row, id_ in enumerate(contrasts.id)}, contrasts.vectors
    return torch.stack([vectors[place[example.id]] for example in chunk])

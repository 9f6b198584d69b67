"""How many replies a run decodes at once to begin with."""

import torch

from interv import VLM
from studies.run.arguments import Common
from studies.run.sizes import Sizes, lengths_of, memory_of
from studies.tasks import Task


def first_size(common: Common, vlm: VLM, task: Task) -> int:
    """The batch size that was given; of "auto" as many as fit beside the weights.

    By the shapes of the model, or of its outline, and the length of this task's prompts.
    """
    if common.batch_size != "auto":
        return common.batch_size
    tokens = lengths_of(vlm, [example.prompt for example in task.prompts("test")]).tokens
    memory = common.memory * 10**9 if common.memory else memory_of(torch.device(common.device))
    return Sizes.of(vlm, common.bits).fitting(memory, tokens, task.max_new_tokens)

"""Read and add activations of vision-language models."""

import beartype  # noqa: F401  before nnsight, which adds an attribute to `object` that beartype cannot hash

import interv.running.mounted  # noqa: F401  before nnsight too
from interv.named import ActivationCache
from interv.ops.apply import Apply, Here
from interv.ops.attention_edits import AttentionEdit, Boost, Drop
from interv.ops.edits import Add, Project, Replace, Scale
from interv.ops.op import Capture, Op
from interv.ops.stacking import stack
from interv.places.columns import COLUMN_KINDS
from interv.places.scope import SCOPES, Scope
from interv.places.site import HOOKS, MODEL_HOOKS, Site
from interv.prompts.prompt import Prompt
from interv.running.prefill import Prefill
from interv.running.replies import Replies
from interv.vlm import VLM

__all__ = [
    "COLUMN_KINDS",
    "HOOKS",
    "MODEL_HOOKS",
    "SCOPES",
    "VLM",
    "ActivationCache",
    "Add",
    "Apply",
    "AttentionEdit",
    "Boost",
    "Capture",
    "Drop",
    "Here",
    "Op",
    "Prefill",
    "Project",
    "Prompt",
    "Replace",
    "Replies",
    "Scale",
    "Scope",
    "Site",
    "stack",
]

"""Read and add activations of vision-language models."""

import beartype  # noqa: F401  before nnsight, which adds an attribute to `object` that beartype cannot hash

from interv.apply import Apply, Here
from interv.attention_edits import AttentionEdit, Boost, Drop
from interv.columns import COLUMN_KINDS
from interv.edits import Add, Project, Replace, Scale
from interv.named import ActivationCache
from interv.ops import Capture, Op
from interv.prefill import Prefill
from interv.prompt import Prompt
from interv.replies import Replies
from interv.scope import SCOPES, Scope
from interv.site import HOOKS, MODEL_HOOKS, Site
from interv.stacking import stack
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

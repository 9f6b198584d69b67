"""Read and add activations of vision-language models."""

import beartype  # noqa: F401  before nnsight, which adds an attribute to `object` that beartype cannot hash

from interv.ops import Add, Capture, Op
from interv.prefill import Prefill
from interv.prompt import Prompt
from interv.replies import Replies
from interv.scope import SCOPES, Scope
from interv.site import HOOKS, Site
from interv.vlm import VLM

__all__ = ["HOOKS", "SCOPES", "VLM", "Add", "Capture", "Op", "Prefill", "Prompt", "Replies", "Scope", "Site"]

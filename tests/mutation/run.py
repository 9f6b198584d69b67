"""Plant a fault, ask the laws, and put everything back."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from interv import VLM
from tests.baselines import warm
from tests.mutation import (  # noqa: F401  they add to FAULTS
    attention_faults,
    baseline_faults,
    cache_faults,
    extension_faults,
    method_faults,
    op_faults,
    quiet_faults,
    site_faults,
    token_faults,
)
from tests.mutation.baseline_laws import BASELINE_LAWS
from tests.mutation.faults import FAULTS, Fault
from tests.mutation.laws import LAWS as OTHERS
from tests.tiny_models import RANDOM, build

LAWS = {**OTHERS, **BASELINE_LAWS}

__all__ = ["FAULTS", "LAWS", "finds", "survives"]


def survives(law: str, vlm: VLM) -> Exception | None:
    """What the law says of the code as it stands: nothing, or what it found."""
    with restored(vlm):
        try:
            LAWS[law](vlm)
        except Exception as error:
            return error
    return None


def finds(law: str, fault: Fault) -> str:
    """On which random models the law finds the fault, and "" where it does not."""
    found = []
    for name in RANDOM:
        warm(build(name))
        with pytest.MonkeyPatch.context() as patch:
            fault.plant(patch)
            if survives(law, build(name)) is not None:
                found.append(name.removeprefix("random-"))
    return ", ".join(found)


@contextmanager
def restored(vlm: VLM) -> Iterator[None]:
    """Take away what a fault leaves on the model, hooks and attention; what is of transformers stays."""
    try:
        yield
    finally:
        for module in vlm.model.modules():
            for hooks in (module._forward_hooks, module._forward_pre_hooks):
                for key in [key for key, hook in hooks.items() if hook.__module__ == "interv.running.hooks"]:
                    del hooks[key]
            module.__dict__.pop("_interv_asks", None)
        vlm.model.__dict__.pop("generate", None)
        for config in (vlm.model.config.get_text_config(), vlm.model.config.vision_config):
            config._attn_implementation = "sdpa"

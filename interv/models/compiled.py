"""Compiled modules, run as they were written while something is to be read or changed inside them."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import Lock

from torch import nn

_LOCK = Lock()
_ASIDE: dict[nn.Module, list] = {}  # what `module.compile()` made, and how many want it aside; empty between runs


@contextmanager
def as_written(model: nn.Module, paths: Iterable[str]) -> Iterator[None]:
    """Set aside what `module.compile()` made of these modules and of those around them.

    A compiled call has looked at its hooks once and for all, so it would pass over those that come later, and it cannot
    look into nnsight. Modules beside these stay compiled.
    """
    with _LOCK:
        chosen = [module for module in _around(model, paths) if module in _ASIDE or module._compiled_call_impl]
        for module in chosen:
            _ASIDE.setdefault(module, [module._compiled_call_impl, 0])[1] += 1
            module._compiled_call_impl = None
    try:
        yield
    finally:
        with _LOCK:
            for module in chosen:
                _ASIDE[module][1] -= 1
                if not _ASIDE[module][1]:
                    module._compiled_call_impl = _ASIDE.pop(module)[0]


def _around(model: nn.Module, paths: Iterable[str]) -> dict[nn.Module, None]:
    """The modules at these paths and all that they lie in, each once."""
    found: dict[nn.Module, None] = {model: None}
    for path in paths:
        module = model
        for part in path.split("."):
            module = module.get_submodule(part)
            found[module] = None
    return found

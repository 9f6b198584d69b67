"""Sampling by a seed of one's own: the global random state is neither read nor moved, whatever other threads do."""

from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor


class Seeded(LogitsProcessor):
    """Has the tokens of one run drawn by a generator of its own; the draws are those of `torch.manual_seed(seed)`.

    Hugging Face's `generate` takes no generator. So this comes last among the processors that it is given and marks the
    scores, and the mark is kept through what `generate` itself makes of them until it draws.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._marked: type[Tensor] | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # type: ignore[override]
        if self._marked is None:
            self._marked = _drawn_by(torch.Generator(scores.device).manual_seed(self._seed))
        return scores.as_subclass(self._marked)


def _drawn_by(generator: torch.Generator) -> type[Tensor]:
    """A tensor from which tokens are drawn by this generator, as are they from all numbers computed from it."""

    class Drawn(Tensor):
        @classmethod
        def __torch_function__(cls, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
            named = dict(kwargs or {})
            if func in (torch.multinomial, Tensor.multinomial):
                named.setdefault("generator", generator)
            with torch._C.DisableTorchFunctionSubclass():
                return _marked(func(*args, **named), cls)

    return Drawn


def _marked(value: Any, mark: type[Tensor]) -> Any:
    """Scores stay marked. Tokens do not: the model is given those."""
    if isinstance(value, tuple):
        return type(value)(_marked(part, mark) for part in value)
    return value.as_subclass(mark) if isinstance(value, Tensor) and value.is_floating_point() else value

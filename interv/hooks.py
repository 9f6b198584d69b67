"""The same ops as plain PyTorch hooks, for code that calls the Hugging Face model itself."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from interv.checks import check_rows
from interv.plan import Location, Plan, Visit
from interv.scope import Step, last_position
from interv.site import Side


@contextmanager
def attached(model: nn.Module, visits: Mapping[Location, Visit]) -> Iterator[None]:
    """Hooks that hand each visited module's hidden state to its function; gone on exit, also after an error."""
    with ExitStack() as stack:
        for (path, side), visit in visits.items():
            stack.callback(_register(model.get_submodule(path), side, _counted(visit)).remove)
        yield


@contextmanager
def installed(model: PreTrainedModel, plan: Plan) -> Iterator[None]:
    """Apply the plan in every call of the model and of its `generate`, until exit.

    The prompt is what `generate` is given, or else what the model is given with an empty cache; what comes later is
    generated. Raises RuntimeError on exit where an op touched no token.
    """
    cursor = _Cursor(model.config.image_token_id, plan)
    own_generate = model.__dict__.get("generate")
    with ExitStack() as stack:
        stack.callback(model.register_forward_pre_hook(cursor.before_forward, with_kwargs=True).remove)
        stack.enter_context(attached(model, plan.visits(lambda count: cursor.current())))
        model.generate = cursor.wrapping(model.generate)  # type: ignore
        stack.callback(_restore, model, own_generate)
        yield
    plan.check_touched()


@dataclass
class _Cursor:
    """Where in the conversation the forward that runs now stands."""

    image_token_id: int
    plan: Plan
    prompt: Tensor | None = None  # [rows, length], True on the prompt's tokens
    generating: bool = False
    step: Step | None = None
    later: Step | None = None  # one generated token a row, which is what nearly every forward holds

    def current(self) -> Step:
        if self.step is None:
            raise RuntimeError("A part of the model ran without the model; call the model itself inside installed().")
        return self.step

    def wrapping(self, generate: Callable[..., Any]) -> Callable[..., Any]:
        """`generate`, which alone knows where the prompt ends when it runs without a cache or in chunks."""

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            ids = kwargs.get("input_ids", args[0] if args else None)
            if ids is None or kwargs.get("assistant_model") is not None:
                raise ValueError("installed() needs generate(input_ids=...), without an assistant model.")
            self.start(ids, kwargs.get("attention_mask"))
            self.generating = True
            try:
                return generate(*args, **kwargs)
            finally:
                self.generating = False

        return wrapped

    def start(self, ids: Tensor, mask: Tensor | None) -> None:
        """A new batch of prompts, whose rows are known only now."""
        check_rows(self.plan.ops, len(ids))
        self.prompt = _prompt_mask(ids, mask)

    def before_forward(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        ids = kwargs.get("input_ids", args[0] if args else None)
        if ids is None:
            raise ValueError("installed() tells tokens apart by input_ids; call the model with them.")
        cache = kwargs.get("past_key_values")
        start = 0 if cache is None else cache.get_seq_length()
        if not self.generating and (start == 0 or self.prompt is None):
            self.start(ids, kwargs.get("attention_mask"))
        assert self.prompt is not None
        self.step = self._step(ids, start, self.prompt)

    def _step(self, ids: Tensor, start: int, prompt: Tensor) -> Step:
        """Of the tokens from `start` on, those inside the prompt's length are the prompt's, the others generated."""
        length = prompt.shape[1]
        if start >= length and ids.shape[1] == 1:
            return self._generated(len(ids), ids.device)
        prompt = prompt.repeat_interleave(len(ids) // len(prompt), dim=0)
        position = torch.arange(start, start + ids.shape[1], device=ids.device)
        inside = (position < length) & prompt[:, position.clamp_max(length - 1)]
        parts: dict[str, Any] = {
            "prompt": inside,
            "image": inside & (ids == self.image_token_id),
            "last_prompt": position == last_position(prompt)[:, None],
            "generated": (position >= length).expand(len(ids), -1),
        }
        return Step(**parts, kinds=frozenset(kind for kind, tokens in parts.items() if tokens.any()))

    def _generated(self, rows: int, device: torch.device) -> Step:
        if self.later is None or len(self.later.generated) != rows or self.later.generated.device != device:
            self.later = Step.of_token(rows, device, generated=True)
        return self.later


def _prompt_mask(ids: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return torch.ones_like(ids, dtype=torch.bool)
    if mask.ndim != 2:
        raise ValueError(f"attention_mask has shape {list(mask.shape)}; installed() needs [batch, tokens].")
    return mask[:, : ids.shape[1]].bool()


def _counted(visit: Visit) -> Callable[[Tensor], Tensor]:
    counts = iter(range(2**62))
    return lambda hidden: visit(hidden, next(counts))


def _register(module: nn.Module, side: Side, change: Callable[[Tensor], Tensor]) -> Any:
    if side == "output":

        def after(module: nn.Module, args: tuple, output: Any) -> Any:
            hidden = output if isinstance(output, Tensor) else output[0]
            changed = change(hidden)
            return changed if isinstance(output, Tensor) else (changed, *output[1:])

        return module.register_forward_hook(after)

    def before(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        if args:
            return (change(args[0]), *args[1:]), kwargs
        name = next(iter(kwargs))
        return args, {**kwargs, name: change(kwargs[name])}

    return module.register_forward_pre_hook(before, with_kwargs=True)


def _restore(model: nn.Module, own_generate: Any) -> None:
    del model.generate
    if own_generate is not None:
        model.generate = own_generate

"""The same ops as plain PyTorch hooks, for code that calls the Hugging Face model itself."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from inspect import signature
from threading import Lock, get_ident
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from interv.attention.function import attending
from interv.models.compiled import as_written
from interv.models.turns import turn_of
from interv.ops.attention_edits import AttentionEdit
from interv.ops.op import Capture, Op
from interv.places.columns import Columns, PromptColumns
from interv.places.scope import Step, last_position
from interv.places.site import Side
from interv.running.checks import check_images, check_rows
from interv.running.decoding import REFUSED
from interv.running.plan import Location, Plan, Visit, hidden_of, with_hidden

_TELLING = Lock()  # one thread at a time changes who is told of a model's `generate`


@contextmanager
def attached(model: nn.Module, visits: Mapping[Location, Visit]) -> Iterator[None]:
    """Hooks that hand each visited module's hidden state to its function, in the calls of this thread alone.

    They are gone on exit, also after an error.
    """
    with ExitStack() as stack:
        stack.enter_context(as_written(model, [path for path, _ in visits]))
        for (path, side), visit in visits.items():
            place = f"The {side} of {path}"
            stack.callback(_register(model.get_submodule(path), side, place, _counted(visit)).remove)
        yield


@contextmanager
def installed(model: PreTrainedModel, plan: Plan) -> Iterator[dict[Op, list[Any]]]:
    """Apply the plan in every call of the model and of its `generate`, until exit; gives what its captures read.

    The prompt is what `generate` is given, or else what the model is given with an empty cache; what comes later is
    generated. Only the thread that opened this context is steered by it; others' calls stay as they are. Raises
    RuntimeError on exit where an op touched no token.
    """
    cursor = _Cursor(model, plan)
    told = [(at, op) for at, op in enumerate(plan.ops) if isinstance(op, Capture | AttentionEdit)]
    reads: dict[Op, list[Any]] = {op: plan.captured.setdefault(at, []) for at, op in told}
    with ExitStack() as stack:
        stack.callback(model.register_forward_pre_hook(cursor.before_forward, with_kwargs=True).remove)
        stack.enter_context(attached(model, plan.visits(lambda count: cursor.current())))
        stack.enter_context(attending(model, plan.asks(lambda count: cursor.current())))
        stack.enter_context(_told_of_generate(model, cursor))
        yield reads
    plan.check_touched(" Hooks act in the thread that opened installed() alone.")


@contextmanager
def _told_of_generate(model: PreTrainedModel, cursor: "_Cursor") -> Iterator[None]:
    """The model's `generate` tells the cursors of all contexts that are open what the prompt is."""
    with _TELLING:
        wrapped = model.__dict__.get("generate")
        if not isinstance(wrapped, _Generate):
            wrapped = model.generate = _Generate(model, model.generate, wrapped, [])  # type: ignore[assignment]
        wrapped.cursors.append(cursor)
    try:
        yield
    finally:
        with _TELLING:
            wrapped.cursors.remove(cursor)
            if not wrapped.cursors:
                del model.generate
                if wrapped.own is not None:
                    model.generate = wrapped.own


@dataclass(eq=False)
class _Generate:
    """A model's `generate`, which alone knows where the prompt ends when it runs without a cache or in chunks.

    Threads take turns: some models keep on themselves where the positions of the prompt that ran last have ended.
    """

    model: PreTrainedModel
    call: Callable[..., Any]
    own: Any  # what stood in the model's own attributes before, if anything
    cursors: list["_Cursor"]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        cursors = [cursor for cursor in self.cursors if cursor.own]
        with turn_of(self.model):
            return self._told(cursors, args, kwargs) if cursors else self.call(*args, **kwargs)

    def _told(self, cursors: list["_Cursor"], args: tuple, kwargs: dict[str, Any]) -> Any:
        ids = kwargs.get("input_ids", args[0] if args else kwargs.get("inputs"))
        if ids is None:
            raise ValueError("installed() needs generate(input_ids=...), to tell the prompt from the reply.")
        for name in ("assistant_model", "guidance_scale", "prompt_lookup_num_tokens"):
            if kwargs.get(name) is not None:
                raise ValueError(f"installed() cannot follow generate({name}=...): {REFUSED[name]}.")
        for cursor in cursors:
            cursor.start(ids, kwargs.get("attention_mask"))
            cursor.generating = True
        try:
            return self.call(*args, **kwargs)
        finally:
            for cursor in cursors:
                cursor.generating = False


@dataclass(eq=False)
class _Cursor:
    """Where in the conversation the forward that runs now stands."""

    model: PreTrainedModel
    plan: Plan
    prompt: Tensor | None = None  # [rows, length], True on the prompt's tokens
    columns: PromptColumns | None = None
    generating: bool = False
    step: Step | None = None
    later: Step | None = None  # one generated token a row, which is what nearly every forward holds
    thread: int = field(default_factory=get_ident)

    @property
    def own(self) -> bool:
        """Whether the thread that runs now is the one that opened the context."""
        return self.thread == get_ident()

    @cached_property
    def names(self) -> list[str]:
        """The parameters of the model's forward, in order: arguments may come by position."""
        return list(signature(type(self.model).forward).parameters)[1:]

    def current(self) -> Step:
        if self.step is None:
            raise RuntimeError("A part of the model ran without the model; call the model itself inside installed().")
        return self.step

    def start(self, ids: Tensor, mask: Tensor | None) -> None:
        """A new batch of prompts, whose rows are known only now."""
        check_rows(self.plan.ops, len(ids))
        self.prompt = _prompt_mask(ids, mask)
        image = (ids == self.model.config.image_token_id) & self.prompt
        check_images(self.plan.ops, image)
        self.columns = PromptColumns(self.prompt, image)

    def before_forward(self, module: nn.Module, args: tuple, kwargs: dict[str, Any] | None = None) -> None:
        if not self.own or kwargs is None:  # another thread may come while the hook is being put in place
            return
        given = {**dict(zip(self.names, args, strict=False)), **kwargs}
        ids = given.get("input_ids")
        if ids is None:
            raise ValueError("installed() tells tokens apart by input_ids; call the model with them.")
        cache = given.get("past_key_values")
        start = 0 if cache is None else cache.get_seq_length()
        if not self.generating and (start == 0 or self.prompt is None):
            self.start(ids, given.get("attention_mask"))
        assert self.prompt is not None
        self.step = self._step(ids, start, self.prompt)
        if self.plan.attends:
            assert self.columns is not None
            self.step = replace(self.step, columns=Columns(self.columns, start + ids.shape[1]))

    def _step(self, ids: Tensor, start: int, prompt: Tensor) -> Step:
        """Of the tokens from `start` on, those inside the prompt's length are the prompt's, the others generated."""
        length = prompt.shape[1]
        if start >= length and ids.shape[1] == 1:
            return replace(self._generated(len(ids), ids.device), number=start + 1 - length)
        prompt = prompt.repeat_interleave(len(ids) // len(prompt), dim=0)
        position = torch.arange(start, start + ids.shape[1], device=ids.device)
        inside = (position < length) & prompt[:, position.clamp_max(length - 1)]
        parts: dict[str, Any] = {
            "prompt": inside,
            "image": inside & (ids == self.model.config.image_token_id),
            "last_prompt": position == last_position(prompt)[:, None],
            "generated": (position >= length).expand(len(ids), -1),
        }
        kinds = frozenset(kind for kind, tokens in parts.items() if tokens.any())
        return Step(**parts, kinds=kinds, number=max(0, start + ids.shape[1] - length))

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
    counts = itertools.count()
    return lambda hidden: visit(hidden, next(counts))


def _register(module: nn.Module, side: Side, place: str, change: Callable[[Tensor], Tensor]) -> Any:
    thread = get_ident()

    def changed(value: Any) -> Any:
        if get_ident() != thread:
            return value
        hidden = hidden_of(value, place)
        new = change(hidden)
        return value if new is hidden else with_hidden(value, new)

    if side == "output":
        return module.register_forward_hook(lambda module, args, output: changed(output))

    def before(module: nn.Module, args: tuple, kwargs: dict[str, Any] | None = None) -> Any:
        if get_ident() != thread or kwargs is None:  # another thread may come while the hook is being put in place
            return None
        if args:
            return (changed(args[0]), *args[1:]), kwargs
        name = next(iter(kwargs))
        return args, {**kwargs, name: changed(kwargs[name])}

    return module.register_forward_pre_hook(before, with_kwargs=True)

"""Ops made ready for one model: grouped by module, applied step by step, and counted."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers.utils import ModelOutput

from interv.attention.recompute import Act
from interv.ops.attention_edits import Edited
from interv.ops.op import Capture, Edit, Op, WholeBatch
from interv.places.layouts import Layout
from interv.places.parts import DERIVED, Part, part_of, passing
from interv.places.scope import Step
from interv.places.site import SCORES, WEIGHTS, Side

Location = tuple[str, Side]
Visit = Callable[[Tensor, int], Tensor]  # (hidden state, how often the module ran before) -> hidden state


@dataclass(frozen=True)
class Plan:
    """The ops of one run. At one location they apply in list order; across locations order means nothing.

    `touched` and `captured` are filled as the model runs, by the op's place in the list; of an op with a gate it is
    what the gate judged and where it fired, each by row, that is kept.
    """

    ops: tuple[Op, ...]
    layout: Layout
    model: nn.Module
    touched: set[int] = field(default_factory=set)
    captured: dict[int, list] = field(default_factory=dict)
    given: dict[str, Tensor] = field(default_factory=dict)  # by path: what modules were given that are not done yet

    @cached_property
    def parts(self) -> list[Part]:
        """What each op's site is of the value that passes at its location."""
        return [part_of(op.site, self.layout, self.model) for op in self.ops]

    @property
    def end(self) -> Location | None:
        """Where a run may stop that is made for these ops alone."""
        return self.layout.end_of([op.site for op in self.ops])

    def visits(self, step_at: Callable[[int], Step]) -> dict[Location, Visit]:
        """One function a location, for a run whose i-th forward holds the tokens `step_at(i)`.

        What happens inside attention is asked for by `asks`.
        """
        groups = self._groups(in_attention=False)
        for indices in groups.values():
            # The residual stream comes before the module that is given it, and a module's inside before its output.
            indices.sort(key=lambda index: (not self.layout.in_stream(self.ops[index].site), self.parts[index].rank))
        visits: dict[Location, Visit] = {
            location: partial(self._visit, indices, step_at) for location, indices in groups.items()
        }
        for path in {path for (path, _), indices in groups.items() if self.parts[indices[0]].kind in DERIVED}:
            visits[path, "input"] = partial(self._keep, path, visits.get((path, "input")))
        return visits

    def asks(self, step_at: Callable[[int], Step]) -> dict[str, Callable[[int], list[Act]]]:
        """By the path of an attention module, what it is to do in its i-th forward."""
        groups = self._groups(in_attention=True)
        return {path: partial(self._acts, indices, step_at) for (path, _), indices in groups.items()}

    @cached_property
    def attends(self) -> bool:
        """Whether an op acts inside attention."""
        return any(self.layout.in_attention(op.site) for op in self.ops)

    def _groups(self, *, in_attention: bool) -> dict[Location, list[int]]:
        groups: dict[Location, list[int]] = {}
        for index, op in enumerate(self.ops):
            if self.layout.in_attention(op.site) == in_attention:
                groups.setdefault(self.layout.locate(op.site), []).append(index)
        return groups

    def _acts(self, indices: list[int], step_at: Callable[[int], Step], count: int) -> list[Act]:
        step = step_at(count)
        chosen = [index for index in indices if step.holds(self.ops[index].scope)]
        return [Act(self.ops[i], step, partial(self._read, i), partial(self._done, i)) for i in chosen]

    def _read(self, index: int, values: Tensor, where: Tensor, step: Step) -> None:
        op = self.ops[index]
        assert isinstance(op, Capture)
        self.captured.setdefault(index, []).append(read(op, values, where, step))
        self._touch(index, where)

    def _done(self, index: int, edited: Edited) -> None:
        if edited.judged is not None and edited.fired is not None:
            self.captured.setdefault(index, []).append(torch.stack([edited.judged, edited.fired], dim=1))
        self._touch(index, edited.reached)

    def _touch(self, index: int, where: Tensor | None) -> None:
        if index not in self.touched and (where is None or where.any()):
            self.touched.add(index)

    def _keep(self, path: str, visit: Visit | None, hidden: Tensor, count: int) -> Tensor:
        """What the module is given, after the ops there."""
        self.given[path] = hidden if visit is None else visit(hidden, count)
        return self.given[path]

    def _visit(self, indices: list[int], step_at: Callable[[int], Step], hidden: Tensor, count: int) -> Tensor:
        path, _ = self.layout.locate(self.ops[indices[0]].site)
        derived = self.parts[indices[0]].kind in DERIVED
        value = passing(hidden, self.given.pop(path) if derived else None, self.layout, self.model, path)
        for index in indices:
            op, part = self.ops[index], self.parts[index]
            step = where = None
            if self.layout.sees_tokens(op.site):  # images may also be seen before the model as a whole is called
                step = step_at(count)
                if not step.holds(op.scope):
                    continue
                if not (step.alike and isinstance(op, Edit) and hidden.shape[:2] == step.prompt.shape):
                    where = _fit(step.where(op.scope), hidden, op)
            state = value.get(part)
            if isinstance(op, Capture):
                self.captured.setdefault(index, []).append(read(op, state, where, step))
            elif self.layout.in_stream(op.site):
                state.copy_(op(state, where, step))  # a new tensor would reach the module alone
            else:
                value.set(part, op(state, where, step))
            self._touch(index, where)
        return value.value

    def check_touched(self, more: str = "") -> None:
        """Raise RuntimeError, which `more` ends, where an op touched nothing: nothing may be silently unsteered."""
        for index, op in enumerate(self.ops):
            if index not in self.touched:
                raise RuntimeError(
                    f"{type(op).__name__} at {op.site} with scope {op.scope!r} touched no token: its module did not "
                    "run, or the run had no such token. Text-only prompts have no image tokens, and the first "
                    f"generated token is fed back only when a second one is generated.{more}"
                )


def hidden_of(value: Any, where: str) -> Tensor:
    """The hidden state in what a module is given or puts out: the value, or the first part of a tuple or output.

    Raises ValueError where there is none, as on the input side of modules that are called with token ids.
    """
    first = value if isinstance(value, Tensor) else value[0] if isinstance(value, tuple | ModelOutput) else None
    if not isinstance(first, Tensor) or not first.is_floating_point():
        came = f"{first.dtype} {list(first.shape)}" if isinstance(first, Tensor) else type(first).__name__
        raise ValueError(f"{where} holds no hidden state but {came}; choose a module that is given or puts out one.")
    return first


def with_hidden(value: Any, hidden: Tensor) -> Any:
    """The same value with another hidden state in it."""
    if isinstance(value, Tensor):
        return hidden
    if isinstance(value, ModelOutput):
        changed = copy.copy(value)
        changed[next(iter(value))] = hidden
        return changed
    return (hidden, *value[1:])


def _fit(where: Tensor, hidden: Tensor, op: Op) -> Tensor:
    """The mask in this module's shape: the output head sees the last positions alone, beams repeat the rows."""
    if hidden.ndim != 3 or hidden.shape[1] > where.shape[1] or len(hidden) % len(where):
        raise ValueError(
            f"{op.site} gives a tensor of shape {list(hidden.shape)}; tokens can be told apart only in "
            f"[{len(where)}, {where.shape[1]}, width]. Choose a module of the residual stream."
        )
    return where[:, -hidden.shape[1] :].repeat_interleave(len(hidden) // len(where), dim=0)


def read(op: Capture, hidden: Tensor, where: Tensor | None, step: Step | None) -> Tensor | list[Tensor]:
    """What a capture takes from one hidden state: never a view of what the model goes on with."""
    if where is None or step is None:
        return hidden.clone()
    if isinstance(op, WholeBatch):
        if not where.all():
            return torch.where(where.reshape(*where.shape, *[1] * (hidden.ndim - 2)), hidden, 0)
        # Scores and weights are worked out for the reader alone; everything else is the model's own.
        return hidden if op.site.hook in (SCORES, WEIGHTS) else hidden.clone()
    rows = torch.arange(len(hidden), device=hidden.device)
    if op.tokens == "last_prompt":
        return hidden[rows, where.int().argmax(1)]
    if isinstance(op.tokens, str):
        return [hidden[row][where[row]] for row in rows]
    index = torch.as_tensor(op.tokens, device=hidden.device)
    first, length = step.prompt.int().argmax(1), step.prompt.sum(1)
    if index.ndim:
        first, length, rows = first[:, None], length[:, None], rows[:, None]
    inside = torch.where(index < 0, index + length, index)
    if ((inside < 0) | (inside >= length)).any():
        raise ValueError(f"Capture at {op.site} asks for a token outside its prompt; the shortest has {length.min()}.")
    return hidden[rows, first + inside]

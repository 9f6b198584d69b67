"""Faults of what is left behind, and of what goes unsaid."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from torch import Tensor

import interv.ops.op
import interv.places.scope
import interv.prompts.encoding
import interv.running.hooks
import interv.running.plan
import interv.running.prefill
import interv.vlm
from interv import Add
from interv.running.plan import Plan
from interv.running.prefill import empty_cache
from interv.running.runner import Runner
from tests.mutation.faults import around, fault


@fault("hooks left behind", "8 nothing stays")
def _(patch: pytest.MonkeyPatch) -> None:
    register = interv.running.hooks._register

    class Kept:
        def remove(self) -> None: ...

    def wrong(*args: Any) -> Any:
        register(*args)
        return Kept()

    patch.setattr(interv.running.hooks, "_register", wrong)


@fault("hooks left behind by an exception", "8 nothing stays")
def _(patch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def wrong(model: Any, visits: Any):
        handles = [
            interv.running.hooks._register(model.get_submodule(path), side, interv.running.hooks._counted(visit))
            for (path, side), visit in visits.items()
        ]
        yield
        for handle in handles:
            handle.remove()

    patch.setattr(interv.running.hooks, "attached", wrong)


@fault("generate stays wrapped", "8 nothing stays")
def _(patch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def staying(model: Any, cursor: Any) -> Iterator[None]:
        model.generate = interv.running.hooks._Generate(model.generate, None, [cursor])
        yield

    patch.setattr(interv.running.hooks, "_told_of_generate", staying)


@fault("touched tokens not counted", "9 untouched ops raise")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Plan, "check_touched", lambda plan: None)


@fault("one op that ran excuses the others", "9 untouched ops raise")
def _(patch: pytest.MonkeyPatch) -> None:
    around(patch, Plan, "check_touched", lambda check, plan: None if plan.touched else check(plan))


@fault("rows without an image go unsteered", "9 an image op needs images")
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(start: Any, vlm: Any, prompts: Any, ops: Any) -> Any:
        return start(vlm, prompts, [replace(op, scope="prompt") if op.scope == "image" else op for op in ops])

    around(patch, interv.vlm.VLM, "_start", wrong)


@fault("fingerprint not checked", "10 a wrong op is refused")
def _(patch: pytest.MonkeyPatch) -> None:
    around(patch, interv.vlm.VLM, "_plan", lambda plan, vlm, ops, rows: plan(vlm, [_unmarked(op) for op in ops], rows))


def _unmarked(op: Any) -> Any:
    return replace(op, fingerprint=None) if getattr(op, "fingerprint", None) else op


@fault("NaN let in", "10 a wrong op is refused")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(interv.ops.op, "check_finite", lambda *args, **named: None)


@fault("a sum that the precision cannot hold let in", "10 a wrong op is refused")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Add, "numbers", property(lambda op: {}))


@fault("hooks leave out the rows without an image", "9 an image op needs images")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(interv.running.hooks, "check_images", lambda ops, mask: None)


@fault("a model that lost the prompt goes on", "9 a prompt without a cache is no prefill")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Runner, "fill", _unchecked_fill)


def _unchecked_fill(runner: Runner, plan: Any, step: Any, encoded: Any) -> Any:
    cache = empty_cache(runner._model.config)
    runner.forward(plan, step, encoded.model_inputs(), cache)
    return cache


@fault("the number of rows not checked by hooks", "10 wrong rows are refused by hooks")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(interv.running.hooks, "check_rows", lambda ops, rows: None)


@fault("a capture is a view that later ops change", "11 captures are copies", "3 ops at one site apply in list order")
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(read: Any, op: Any, hidden: Tensor, where: Any, step: Any) -> Any:
        return hidden[:, -1] if op.tokens == "last_prompt" else read(op, hidden, where, step)

    around(patch, interv.running.plan, "read", wrong)


@fault("token indices count padding", "11 captured tokens are those asked for")
def _(patch: pytest.MonkeyPatch) -> None:
    def wrong(read: Any, op: Any, hidden: Tensor, where: Any, step: Any) -> Any:
        return hidden[:, op.tokens] if isinstance(op.tokens, int) else read(op, hidden, where, step)

    around(patch, interv.running.plan, "read", wrong)

"""Faults that would steer wrongly and quietly, each planted in a running engine: one of the laws finds it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from engines import Engines, cleared
from interv_vllm import caching, rerun, state, table, v1
from laws import LAWS, tight
from world import World

Patch = pytest.MonkeyPatch


@dataclass(frozen=True)
class Fault:
    law: str
    plant: Callable[[Patch], None]


def no_second_run(patch: Patch) -> None:
    patch.setattr(v1, "rerun", lambda state, attention, step, *rest: state.predict(step))


def keys_not_written(patch: Patch) -> None:
    inner = rerun.selected

    def selected(*args: Any) -> Any:
        part = inner(*args)
        part.slot_mapping = torch.full_like(part.slot_mapping, -1)
        return part

    patch.setattr(rerun, "selected", selected)


def states_not_put_back(patch: Patch) -> None:
    inner = rerun.rerun
    patch.setattr(v1, "rerun", lambda *args: inner(*args[:-1], args[-1].clone()))


def steered_blocks_are_cached(patch: Patch) -> None:
    patch.setattr(caching, "shared", lambda request: request.num_tokens)


def blocks_of_a_twin_are_taken(patch: Patch) -> None:
    patch.setattr(caching, "_Shortened", lambda request, limit: request)


def vector_lost_on_preemption(patch: Patch) -> None:
    inner = state.State._lay_out

    def lay_out(self: Any, step: Any, name: str, row: int, start: int, end: int, computed: int) -> None:
        if computed < self.requests[name].prompt_length - 1:
            self.requests[name].vector = None
        inner(self, step, name, row, start, end, computed)

    patch.setattr(state.State, "_lay_out", lay_out)


def rows_not_reset(patch: Patch) -> None:
    inner = state.State._fill

    def fill(self: Any, rows: Any, tokens: Any) -> None:
        kept = {block: buffer.clone() for block, buffer in self.rows.items() if block not in rows}
        inner(self, rows, tokens)
        for block, buffer in kept.items():
            self.rows[block].copy_(buffer)

    patch.setattr(state.State, "_fill", fill)


def row_keeps_the_vector_before(patch: Patch) -> None:
    inner = table.Table.place

    def place(self: Any, request: str, vector: Any, batch: Any) -> int:
        if request not in self._rows_of:
            vector = vector * 0
        return inner(self, request, vector, batch)

    patch.setattr(table.Table, "place", place)


def last_token_of_the_batch(patch: Patch) -> None:
    inner = state.State._fill

    def fill(self: Any, rows: Any, tokens: Any) -> None:
        inner(self, rows, [max(tokens)] * len(tokens) if tokens else [])

    patch.setattr(state.State, "_fill", fill)


def strength_dropped(patch: Patch) -> None:
    inner = state.ask_of
    patch.setattr(state, "ask_of", lambda extra: (own := inner(extra)) and type(own)(own.name))


def row_kept_after_the_end(patch: Patch) -> None:
    patch.setattr(state.Table, "release", lambda self, request: None)


def last_prompt_token_steered_too(patch: Patch) -> None:
    patch.setattr(state.Request, "begins", property(lambda self: self.prompt_length - 1))


def positions_of_the_step(patch: Patch) -> None:
    inner = state.State._lay_out
    patch.setattr(state.State, "_lay_out", lambda self, *args: inner(self, *args[:-1], 0))


EQUAL = "mixed_batch_equals_the_toolkit"
FAULTS = {
    fault.plant.__name__: fault
    for fault in (
        Fault(EQUAL, no_second_run),
        Fault(EQUAL, keys_not_written),
        Fault(EQUAL, states_not_put_back),
        Fault("following_turn_takes_nothing_steered", steered_blocks_are_cached),
        Fault("preempted_takes_nothing_of_an_unsteered_twin", blocks_of_a_twin_are_taken),
        Fault("preempted_equals_alone", vector_lost_on_preemption),
        Fault("arrivals_are_not_mixed_with_neighbours", rows_not_reset),
        Fault(EQUAL, row_keeps_the_vector_before),
        Fault(EQUAL, last_token_of_the_batch),
        Fault(EQUAL, strength_dropped),
        Fault("aborted_leaves_nothing", row_kept_after_the_end),
        Fault(EQUAL, last_prompt_token_steered_too),
        Fault(EQUAL, positions_of_the_step),
    )
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_found(name: str, llava: World, engines: Engines) -> None:
    """The same laws hold without faults, in test_memory.py."""
    engine, fault = engines.of(llava.model, llava.steerers, **tight(llava)), FAULTS[name]
    try:
        with pytest.MonkeyPatch.context() as patch:
            fault.plant(patch)
            with pytest.raises(AssertionError):
                LAWS[fault.law](engine, llava)
    finally:
        cleared(engine)  # what a fault leaves behind is nobody else's

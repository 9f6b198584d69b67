"""Which token of a step is steered with what, and whose row of the table is whose, without an engine."""

from typing import Any

import pytest
import torch

from interv_vllm.caching import cache_blocks, get_computed_blocks
from interv_vllm.state import State
from interv_vllm.steerers import Constant, Learned
from interv_vllm.table import Table

WIDTH = 4
LEARNED = Learned(1, 2, "response", torch.eye(WIDTH), torch.zeros(WIDTH), torch.eye(WIDTH))
STEERERS = {
    "learned": LEARNED,
    "later": Learned(1, 2, "generated", torch.eye(WIDTH), torch.zeros(WIDTH), torch.eye(WIDTH)),
    "fixed": Constant(0, "response", torch.ones(WIDTH)),
}


class Params:
    def __init__(self, **extra: Any) -> None:
        self.extra_args = extra


def made() -> State:
    cpu = torch.device("cpu")
    return State(STEERERS, width=WIDTH, most_tokens=64, most_requests=4, device=cpu, dtype=torch.float32, always=False)


def test_rows_are_given_and_taken_back() -> None:
    table = Table(2, WIDTH, torch.device("cpu"), torch.float32)
    ones = torch.ones(WIDTH)
    first, second = table.place("a", ones, {"a", "b"}), table.place("b", 2 * ones, {"a", "b"})
    assert {first, second} == {1, 2}
    assert table.place("a", 9 * ones, {"a"}) == first
    assert torch.equal(table.rows[first], ones)  # a request's vector does not change
    assert table.place("c", 3 * ones, {"c", "a"}) == second  # b is idle
    assert torch.equal(table.rows[second], 3 * ones)
    table.release("a")
    table.release("b")
    assert len(table) == 1
    assert not table.rows[0].any()
    assert not table.rows[first].any()


def test_a_request_is_read_once_its_prompt_is_through() -> None:
    state = made()
    state.add("r", Params(steer="learned", steer_strength=2.0), 5)
    assert not state.begin(["r"], [0, 3], [0]).reading  # three of five tokens
    step = state.begin(["x", "r"], [0, 1, 3], [7, 3])
    assert [(one.name, one.row, one.token) for one in step.reading] == [("r", 1, 2)]
    assert state.last[0] == 2
    state.states[1][0] = torch.tensor([1.0, 0.0, -1.0, 0.5])
    assert state.predict(step)
    row = int(state.rows[2][0])
    assert torch.allclose(state.table.rows[row], 2 * torch.tanh(torch.tensor([1.0, 0.0, -1.0, 0.5])))
    state.begin(["r", "x"], [0, 1, 3], [5, 7])
    assert state.rows[2][:3].tolist() == [row, 0, 0]


def test_a_request_that_comes_back_is_steered_from_its_last_prompt_token_on() -> None:
    state = made()
    for name, steerer in (("r", "learned"), ("g", "later")):
        state.add(name, Params(steer=steerer), 5)
    step = state.begin(["r", "g"], [0, 5, 10], [0, 0])
    state.predict(step)
    state.begin(["r", "g"], [0, 8, 16], [0, 0])  # both again, with three tokens of reply
    assert [*map(bool, state.rows[2][:16].tolist())] == [False] * 4 + [True] * 4 + [False] * 5 + [True] * 3


def test_a_known_vector_is_added_at_once() -> None:
    state = made()
    state.add("f", Params(steer="fixed", steer_strength=3.0), 5)
    step = state.begin(["f"], [0, 5], [0])
    assert not step.reading
    assert [*map(bool, state.rows[0][:5].tolist())] == [False] * 4 + [True]
    assert torch.equal(state.table.rows[int(state.rows[0][4])], 3 * torch.ones(WIDTH))


def test_a_request_that_was_never_read_stops_the_engine() -> None:
    state = made()
    state.add("r", Params(steer="learned"), 5)
    with pytest.raises(RuntimeError, match="without being read"):
        state.begin(["r"], [0, 1], [5])


def test_nothing_is_left_of_a_step() -> None:
    state = made()
    state.add("f", Params(steer="fixed"), 5)
    state.begin(["f"], [0, 5], [0])
    state.end()
    assert not state.active
    assert not state.rows[0].any()
    state.finish("f")
    assert (len(state.table), state.requests) == (0, {})


def test_only_tokens_before_the_last_of_the_prompt_are_shared() -> None:
    """Of a request with a prompt of 10 tokens that came back with 7 of its reply."""

    class Request:
        num_tokens, num_prompt_tokens = 17, 10

        def __init__(self, **extra: Any) -> None:
            self.sampling_params = Params(**extra)

    def taken(request: Any, most: int | None = None) -> int:
        return request.num_tokens - 1 if most is None else most

    steered, plain, left = Request(steer="learned"), Request(), list[int]()
    assert get_computed_blocks(taken, None, steered) == 9
    assert get_computed_blocks(taken, None, steered, 14) == 9
    assert get_computed_blocks(taken, None, steered, 4) == 4
    assert get_computed_blocks(taken, None, plain) == 16
    for request in (steered, plain):
        cache_blocks(lambda one, tokens: left.append(tokens), None, request, 15)
    assert left == [9, 15]

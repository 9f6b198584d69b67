"""Threads that share a model: each gets what it would get alone."""

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from interv import VLM, Add, AttentionEdit, Boost, Capture, Drop, Prompt, Site
from tests.property.cases import Ask, Case
from tests.property.reference import own_inputs
from tests.tiny_models import RANDOM, build

THREADS, ROUNDS = 8, 6
each = pytest.mark.parametrize("name", RANDOM)


@pytest.fixture(autouse=True)
def eager_switches() -> Iterator[None]:
    """Threads are switched as often as it goes, so that what can be mixed is."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    yield
    sys.setswitchinterval(before)


def together(run: Callable[[int], Any], times: int) -> list[list[Any]]:
    """`run(i)` in thread i, all at once, so many times over."""
    start = Barrier(THREADS)

    def rounds(number: int) -> list[Any]:
        start.wait()
        return [run(number) for _ in range(times)]

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(rounds, range(THREADS)))


def as_alone(run: Callable[[int], Any], times: int = ROUNDS) -> None:
    alone = [run(number) for number in range(THREADS)]
    assert len({str(reply) for reply in alone}) >= THREADS // 2, "they would not show it if they were mixed"
    state = torch.get_rng_state()
    assert together(run, times) == [[reply] * times for reply in alone]
    assert torch.equal(torch.get_rng_state(), state)


def push(vlm: VLM, number: int, scope: str = "response") -> Add:
    return Add(Site(1), torch.randn(vlm.d_model, generator=torch.Generator().manual_seed(number)), scope, 2.0)


def by_hooks(vlm: VLM, inputs: dict[str, Tensor], number: int) -> list:
    with vlm.installed([push(vlm, number)]):
        output = vlm.model.generate(**inputs, do_sample=False, max_new_tokens=3, eos_token_id=[])
    return output[:, inputs["input_ids"].shape[1] :].tolist()


@each
def test_samples_are_those_of_their_seed(name: str) -> None:
    vlm, prompts = build(name), [Ask().prompt()]
    options = {"do_sample": True, "max_new_tokens": 3, "temperature": 1.5, "top_k": 40}
    as_alone(lambda number: vlm.generate(prompts, seed=number, **options).token_ids)


@each
def test_steered_samples_are_those_of_their_seed_and_vector(name: str) -> None:
    vlm, prompts = build(name), [Ask().prompt()]
    options = {"do_sample": True, "max_new_tokens": 2}
    as_alone(lambda number: vlm.generate(prompts, [push(vlm, number)], seed=number, **options).token_ids, 2)


@each
def test_installed_ops_act_in_their_own_thread(name: str) -> None:
    vlm = build(name)
    inputs = own_inputs(vlm, Case().asks[:1])
    as_alone(lambda number: by_hooks(vlm, inputs, number))


@each
def test_installed_ops_sampled_runs_and_plain_ones_go_side_by_side(name: str) -> None:
    """Rows of several lengths, so that models which keep a batch's positions on themselves would show it."""
    vlm = build(name)
    asks = [Ask("is it ?" * (1 + row), ((28 * (1 + row % 3), 28),), seed=row) for row in range(THREADS)]
    inputs = [own_inputs(vlm, [ask]) for ask in asks]

    def run(number: int) -> list:
        prompts: list[Prompt] = [asks[number].prompt()]
        match number % 4:
            case 0:
                return vlm.generate(prompts, max_new_tokens=3).token_ids
            case 1:
                return by_hooks(vlm, inputs[number], number)
            case 2:
                return vlm.generate(prompts, do_sample=True, seed=number, max_new_tokens=3).token_ids
        return vlm.generate(prompts, [push(vlm, number, "all")], max_new_tokens=3).token_ids

    as_alone(run)


@each
def test_forwards_inside_installed_are_steered_by_their_own_thread(name: str) -> None:
    vlm = build(name)
    inputs = own_inputs(vlm, Case().asks[:1])

    @torch.no_grad()
    def run(number: int) -> list:
        if number % 2:
            return vlm.model(**inputs).logits[:, -1].tolist()
        with vlm.installed([push(vlm, number), read := Capture(Site(1))]) as reads:
            logits = vlm.model(**inputs).logits[:, -1].tolist()
        return [logits, [part.tolist() for part in reads[read]]]

    as_alone(run, 3)


@each
def test_a_plain_call_of_the_model_beside_a_steered_run_is_plain(name: str) -> None:
    vlm = build(name)
    inputs = own_inputs(vlm, Case().asks[:1])

    @torch.no_grad()
    def run(number: int) -> list:
        if number % 2:
            return vlm.model(**inputs).logits[:, -1].tolist()
        if number % 4:
            return [vlm.capture([Ask().prompt()], [Site(0)])[Site(0)].tolist()]
        return vlm.generate([Ask().prompt()], [push(vlm, number)], max_new_tokens=2).token_ids

    as_alone(run, 3)


def tilt(vlm: VLM, number: int) -> AttentionEdit:
    """Another edit inside attention for every thread; all threads' are in one block."""
    if number % 2:
        return Drop(Site(1, "hook_pattern"), "image", strength=number / THREADS)
    return Boost(Site(1, "hook_attn_scores"), 0.5 + number, "image")


@each
def test_edits_and_captures_inside_attention_act_in_their_own_thread(name: str) -> None:
    """Beside one another, beside unsteered runs, and beside plain calls of the model."""
    vlm, prompts = build(name), [Ask().prompt()]
    inputs, pattern = own_inputs(vlm, Case().asks[:1]), Site(1, "hook_pattern")

    @torch.no_grad()
    def run(number: int) -> list:
        match number % 4:
            case 0:
                return vlm.logits(prompts, [tilt(vlm, number)]).tolist()
            case 1:
                with vlm.installed([tilt(vlm, number), read := Capture(pattern)]) as reads:
                    logits = vlm.model(**inputs).logits[:, -1].tolist()
                return [logits, [part.tolist() for part in reads[read]]]
            case 2:
                return vlm.capture(prompts, [pattern])[pattern].tolist() if number < 4 else plain()
        with vlm.installed([tilt(vlm, number)]):
            return plain()

    def plain() -> list:
        return vlm.model(**inputs).logits[:, -1].tolist()

    as_alone(run, 3)


@each
def test_a_context_that_is_open_in_another_thread_steers_nobody_else(name: str) -> None:
    vlm, prompts = build(name), [Ask().prompt()]
    plain = vlm.generate(prompts, max_new_tokens=3).token_ids
    opened, done = Event(), Event()

    def hold() -> None:
        context = vlm.installed([push(vlm, 3)])
        context.__enter__()
        opened.set()
        done.wait(60)
        with pytest.raises(RuntimeError, match="thread that opened installed"):
            context.__exit__(None, None, None)

    with ThreadPoolExecutor(1) as pool:
        holding = pool.submit(hold)
        opened.wait(60)
        try:
            assert vlm.generate(prompts, max_new_tokens=3).token_ids == plain
            vlm.model.generate(**own_inputs(vlm, Case().asks[:1]), max_new_tokens=2)
        finally:
            done.set()
        holding.result()


class Drawing(LogitsProcessor):
    """A user's own processor, which must be given plain tensors."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        assert type(scores) is Tensor
        assert type(input_ids) is Tensor
        return scores / 1.25


@each
@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.8, "top_p": 0.9, "top_k": 30},
        {"num_beams": 3},
        {"num_return_sequences": 2, "min_p": 0.01, "repetition_penalty": 1.1},
        {"logits_processor": LogitsProcessorList([Drawing()])},
    ],
    ids=["warped", "beams", "several", "own processor"],
)
def test_a_seed_draws_what_the_global_seed_would(name: str, options: dict[str, Any]) -> None:
    """And neither reads nor moves the global state."""
    vlm, prompts = build(name), Case().prompts()
    options = {"do_sample": True, "max_new_tokens": 6, **options}
    with torch.random.fork_rng():
        torch.manual_seed(7)
        wanted = vlm.generate(prompts, **options).token_ids
    state = torch.get_rng_state()
    assert vlm.generate(prompts, seed=7, **options).token_ids == wanted
    assert torch.equal(torch.get_rng_state(), state)


def test_two_vlms_of_one_model_take_turns_too() -> None:
    vlm = build(RANDOM[0])
    both = [vlm, VLM(vlm.model, vlm.processor)]
    prompts = [Ask().prompt()]
    as_alone(lambda number: both[number % 2].generate(prompts, [push(vlm, number)], max_new_tokens=2).token_ids, 2)

"""The engine's replies are the toolkit's: the same tokens, and log-probabilities within a thousandth at every step."""

from typing import Any

import pytest

from engines import LLM, Engines, params, state_of
from laws import check, mixed_batch_equals_the_toolkit
from world import PAIRS, World

CONSTANT = ("mean", "mean-ba", "random", "mean-generated")
OF_QWEN = ("l2s-3-3", "l2s-5-2", "l2s-1-4")


def answered(engine: LLM, world: World, steerer: str | None, strength: float = 1.0) -> None:
    outputs = engine.generate(world.inputs, params(steerer, strength if steerer else None), use_tqdm=False)
    check(world.answers(steerer or "none", strength), outputs)


@pytest.mark.parametrize("strength", [1.0, 2.5])
@pytest.mark.parametrize("steerer", [*PAIRS, "l2s-3-3-generated", "l2s-fitted"])
def test_a_learned_steerer_equals_the_toolkit(steerer: str, strength: float, llava: World, engines: Engines) -> None:
    answered(engines.of(llava.model, llava.steerers), llava, steerer, strength)


@pytest.mark.parametrize("steerer", CONSTANT)
def test_a_constant_vector_equals_the_toolkit(steerer: str, llava: World, engines: Engines) -> None:
    engine = engines.of(llava.model, llava.steerers)
    reruns = state_of(engine).counts["reruns"]
    answered(engine, llava, steerer, 2.5)
    assert state_of(engine).counts["reruns"] == reruns  # a known vector needs no token twice


@pytest.mark.parametrize("steerer", ["none", None])
def test_an_unsteered_request_equals_the_toolkit(steerer: str | None, llava: World, engines: Engines) -> None:
    answered(engines.of(llava.model, llava.steerers), llava, steerer)


def test_a_mixed_batch_equals_the_toolkit(llava: World, engines: Engines) -> None:
    mixed_batch_equals_the_toolkit(engines.of(llava.model, llava.steerers), llava)


def test_steering_changes_replies(llava: World) -> None:
    """Otherwise nothing above would say anything."""
    plain = [answer.token_ids for answer in llava.answers()]
    for steerer in PAIRS:
        steered = [answer.token_ids for answer in llava.answers(steerer, 2.5)]
        assert sum(one != other for one, other in zip(plain, steered, strict=True)) > len(plain) // 8


@pytest.mark.parametrize("short", [1, -3])
def test_a_prompt_in_chunks_equals_the_toolkit(short: int, llava: World, engines: Engines) -> None:
    """The last prompt token by itself in a step, and steps that hold parts of several prompts."""
    settings: dict[str, Any] = {"max_num_batched_tokens": llava.longest - short, "max_num_seqs": 8}
    engine = engines.of(llava.model, llava.steerers, **settings)
    mixed_batch_equals_the_toolkit(engine, llava)


@pytest.mark.parametrize("steerer", OF_QWEN)
def test_qwen2vl_equals_the_toolkit(steerer: str, qwen2vl: World, engines: Engines) -> None:
    answered(engines.of(qwen2vl.model, qwen2vl.steerers), qwen2vl, steerer)


def test_qwen2vl_in_a_mixed_batch_equals_the_toolkit(qwen2vl: World, engines: Engines) -> None:
    engine = engines.of(qwen2vl.model, qwen2vl.steerers)
    mixed_batch_equals_the_toolkit(engine, qwen2vl, [(steerer, 1.0) for steerer in OF_QWEN])

"""Where memory is short, shared or given back, replies are what they are otherwise."""

import os
from typing import Any

import pytest

from engines import Engines, apart, params, preempt, state_of, stepped
from laws import BLOCK, LAWS, LONG, as_tokens, tight
from world import TOLERANCE, World


@pytest.mark.parametrize("law", LAWS)
def test_law_holds_where_memory_is_tight(law: str, llava: World, engines: Engines) -> None:
    LAWS[law](engines.of(llava.model, llava.steerers, **tight(llava)), llava)


def test_blocks_of_the_prompt_are_shared_between_steerers(llava: World, engines: Engines) -> None:
    """A second strength on the same prompt computes what the first one steered, and no more."""
    engine = engines.of(llava.model, llava.steerers, **tight(llava))
    reply = engine.generate([as_tokens(engine, llava)], params(None, tokens=LONG, ignore_eos=True), use_tqdm=False)[0]
    turn = as_tokens(engine, llava, reply)
    engine.reset_prefix_cache()
    for number, (steerer, strength) in enumerate([("l2s-3-3", 1.0), ("l2s-7-4", 2.5), ("mean", 1.0)]):
        output = engine.generate([turn], params(steerer, strength), use_tqdm=False)[0]
        whole = (len(output.prompt_token_ids) - 1) // BLOCK * BLOCK
        assert whole
        assert output.num_cached_tokens == (whole if number else 0)


def test_more_alive_than_rows(llava: World, engines: Engines) -> None:
    """Preempted requests outlive their rows of the table, and go on with the vectors that they had."""
    settings: dict[str, Any] = {"max_num_seqs": 2, "scheduling_policy": "priority"}
    engine = engines.of(llava.model, llava.steerers, **settings)
    own = params("l2s-3-3", 1.5, LONG, ignore_eos=True)
    alone = [engine.generate([prompt], own, use_tqdm=False)[0] for prompt in llava.inputs[:6]]
    done: dict[str, Any] = {}
    for first in (0, 2, 4):  # the later, the more urgent
        for number in (first, first + 1):
            engine.llm_engine.add_request(f"e{number}", llava.inputs[number], own, priority=-first)
        done |= stepped(engine, {}, steps=5)
        if first < 4:
            preempt(engine, [f"e{first}", f"e{first + 1}"])
    assert state_of(engine).table.evicted >= 2
    assert len(state_of(engine).requests) == 6
    done |= stepped(engine, {})
    assert max(apart(one, done[f"e{number}"]) for number, one in enumerate(alone)) < TOLERANCE
    engine.generate(llava.inputs[:1], params(None), use_tqdm=False)  # workers hear of an end with the next step
    assert len(state_of(engine).table) == 0


@pytest.mark.skipif(
    os.environ.get("RUNNER") == "v2",
    reason="the second runner's sampler has a kernel that Triton's interpreter cannot run",
)
def test_every_copy_of_a_prompt_is_steered(llava: World, engines: Engines) -> None:
    """`n` makes requests of one; each is read and steered by itself."""
    engine = engines.of(llava.model, llava.steerers)
    several = params("l2s-3-3", 2.5, n=3, temperature=1.0, top_k=1)  # vLLM takes no greedy copies
    outputs = engine.generate(llava.inputs[:4], several, use_tqdm=False)
    answers = llava.answers("l2s-3-3", 2.5)[:4]
    for answer, output in zip(answers, outputs, strict=True):
        assert [list(reply.token_ids) for reply in output.outputs] == [answer.token_ids] * 3

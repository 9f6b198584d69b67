"""What must hold of an engine, each as a function that raises AssertionError; planted faults are caught by these."""

from typing import Any

from engines import LLM, apart, params, preempt, preemptions, state_of, stepped
from world import STEERED, TOLERANCE, World, difference

BLOCK = 32  # tokens that share a place in memory; CPUs have multiples of it
LONG = 2 * BLOCK + 8


def tight(world: World) -> dict[str, Any]:
    """Settings of an engine whose memory holds about five long replies, in small blocks."""
    each = -(-(world.longest + LONG) // BLOCK)
    return {"block_size": BLOCK, "num_gpu_blocks_override": 5 * each + 2, "max_num_seqs": 16}


def check(answers: Any, outputs: Any) -> None:
    others, worst = difference(answers, outputs)
    assert others == 0, f"{others} of {len(answers)} replies have other tokens"
    assert worst < TOLERANCE, f"log-probabilities are off by {worst:.2g}"


def mixed_batch_equals_the_toolkit(engine: LLM, world: World, steered: Any = STEERED) -> None:
    """Several steerers, strengths and unsteered requests as neighbours, each as the toolkit answers it alone."""
    cases = [*steered, (None, 1.0)]
    order = [(number, *cases[number % len(cases)]) for number in range(len(world.rows))]
    outputs = engine.generate(
        [world.inputs[number] for number, _, _ in order],
        [params(name, None if name is None else strength) for _, name, strength in order],
        use_tqdm=False,
    )
    answers = [world.answers(name or "none", strength)[number] for number, name, strength in order]
    check(answers, outputs)


def unsteered_after_steered_is_unsteered(engine: LLM, world: World) -> None:
    prompts = world.inputs[:4]
    engine.generate(prompts, params("l2s-3-3", 2.5), use_tqdm=False)
    check(world.answers()[:4], engine.generate(prompts, params(None), use_tqdm=False))


def arrivals_are_not_mixed_with_neighbours(engine: LLM, world: World) -> None:
    """Their last prompt tokens run again while another steerer's request is in the midst of its reply."""
    going = params("mean", 2.5, LONG, ignore_eos=True)
    stepped(engine, {"n": (world.inputs[0], going)}, steps=4)
    own = params("l2s-7-4", 1.0)
    done = stepped(engine, {f"b{number}": (world.inputs[number], own) for number in range(1, 5)})
    check(world.answers("l2s-7-4", 1.0)[1:5], [done[f"b{number}"] for number in range(1, 5)])


def preempted_equals_alone(engine: LLM, world: World) -> None:
    """Long replies that do not all fit into memory, against the same requests one at a time."""
    own = params("l2s-3-3", 1.5, LONG, ignore_eos=True)
    prompts = world.inputs[:10]
    alone = [engine.generate([prompt], own, use_tqdm=False)[0] for prompt in prompts]
    requests = {f"p{number}": (prompt, own) for number, prompt in enumerate(prompts)}
    with preemptions(engine) as preempted:
        together = stepped(engine, requests)
    assert preempted, "nothing was preempted: the memory is too large for this test"
    assert max(apart(one, together[f"p{number}"]) for number, one in enumerate(alone)) < TOLERANCE


def following_turn_takes_nothing_steered(engine: LLM, world: World) -> None:
    """A steered reply is part of the next prompt: its keys must be computed anew, and the image's need not be."""
    own = params("l2s-3-3", 2.5, LONG, ignore_eos=True)
    reply = engine.generate([as_tokens(engine, world)], own, use_tqdm=False)[0]
    turn = as_tokens(engine, world, reply)
    warm = engine.generate([turn], params(None), use_tqdm=False)[0]
    assert warm.num_cached_tokens < len(reply.prompt_token_ids)
    engine.reset_prefix_cache()
    assert apart(warm, engine.generate([turn], params(None), use_tqdm=False)[0]) < TOLERANCE


def preempted_takes_nothing_of_an_unsteered_twin(engine: LLM, world: World) -> None:
    """Another request left the same tokens unsteered; one that comes back from preemption must not read them."""
    prompt, own = as_tokens(engine, world), params("l2s-3-3", 2.5, LONG, ignore_eos=True)
    alone = engine.generate([prompt], own, use_tqdm=False)[0]
    engine.reset_prefix_cache()
    engine.generate([as_tokens(engine, world, alone)], params(None, tokens=1), use_tqdm=False)
    stepped(engine, {"again": (prompt, own)}, steps=LONG - 4)
    preempt(engine, ["again"])
    assert apart(alone, stepped(engine, {})["again"]) < TOLERANCE


def aborted_leaves_nothing(engine: LLM, world: World) -> None:
    """Rows of the table and what is known of requests: all is free again after an abort."""
    own = params("l2s-3-3", 1.0, LONG, ignore_eos=True)
    names = [f"a{number}" for number in range(4)]
    stepped(engine, {name: (prompt, own) for name, prompt in zip(names, world.inputs, strict=False)}, steps=6)
    engine.llm_engine.abort_request(names)
    engine.generate(world.inputs[:1], params(None), use_tqdm=False)  # workers hear of it with the next step
    state = state_of(engine)
    assert not state.requests
    assert len(state.table) == 0
    assert not state.table.rows.any()


def as_tokens(engine: LLM, world: World, reply: Any = None) -> dict[str, Any]:
    """The first prompt, with a reply behind it, so that a following turn has the very same tokens."""
    ids = engine.get_tokenizer().encode(world.rows[0]["prompt"], add_special_tokens=False)
    behind = [] if reply is None else list(reply.outputs[0].token_ids)
    return {"prompt_token_ids": ids + behind, "multi_modal_data": world.inputs[0]["multi_modal_data"]}


LAWS = {
    law.__name__: law
    for law in (
        mixed_batch_equals_the_toolkit,
        unsteered_after_steered_is_unsteered,
        arrivals_are_not_mixed_with_neighbours,
        preempted_equals_alone,
        following_turn_takes_nothing_steered,
        preempted_takes_nothing_of_an_unsteered_twin,
        aborted_leaves_nothing,
    )
}

"""The second model runner, the default on GPUs since vLLM 0.23: it samples in a call of its own, after the forward."""

from typing import Any

import torch
from torch import Tensor

from interv_vllm.rerun import Attention, rerun
from interv_vllm.state import State, Step

NAMES = ("finish_requests", "add_requests", "prepare_inputs", "execute_model", "initialize_kv_cache")


def attach(runner: Any, state: State) -> None:
    """Hidden states wait in `execute_model_state` until they are sampled from, so rows can be replaced there."""
    inner = {name: getattr(runner, name) for name in NAMES}
    attention: list[Attention] = []
    current: list[Step] = []

    def initialize_kv_cache(*args: Any, **kwargs: Any) -> Any:
        out = inner["initialize_kv_cache"](*args, **kwargs)
        attention[:] = [Attention(runner.attn_groups)]
        return out

    def finish_requests(scheduler_output: Any) -> Any:
        # It takes preempted requests away as well; their vectors are kept.
        for name in scheduler_output.finished_req_ids:
            state.finish(name)
        return inner["finish_requests"](scheduler_output)

    def add_requests(scheduler_output: Any) -> Any:
        for new in scheduler_output.scheduled_new_reqs:
            state.add(new.req_id, new.sampling_params, new.prompt_len)
        return inner["add_requests"](scheduler_output)

    def prepare_inputs(*args: Any, **kwargs: Any) -> Any:
        batch = inner["prepare_inputs"](*args, **kwargs)
        if state.requests:
            current[:] = [state.begin(batch.req_ids, batch.query_start_loc_np, batch.num_computed_tokens_np)]
        return batch

    @torch.inference_mode()
    def execute_model(*args: Any, **kwargs: Any) -> Any:
        current.clear()
        try:
            out = inner["execute_model"](*args, **kwargs)
            if current and current[0].reading:
                done = runner.execute_model_state
                rerun(state, attention[0], current[0], runner.vllm_config, _call(runner, done), done.hidden_states)
            return out
        finally:
            state.end()

    own = (finish_requests, add_requests, prepare_inputs, execute_model, initialize_kv_cache)
    for function in own:
        setattr(runner, function.__name__, function)
    runner.interv_state = state


def _call(runner: Any, done: Any) -> Any:
    batch = done.input_batch
    positions = runner.model_state.prepare_inputs(batch, runner.req_states).get("positions", batch.positions)

    def call(tokens: Tensor) -> Tensor:
        ids = batch.input_ids.index_select(0, tokens)
        embeds = runner.model.embed_input_ids(ids) if runner.uses_inputs_embeds else None
        return runner.model(
            input_ids=ids if embeds is None else None,
            positions=positions.index_select(-1, tokens),
            intermediate_tensors=None,
            inputs_embeds=embeds,
        )

    return call

"""The first model runner: the default up to vLLM 0.22, the CPU's without Triton, VLLM_USE_V2_MODEL_RUNNER=0 later."""

from typing import Any

from torch import Tensor

from interv_vllm.rerun import Attention, rerun
from interv_vllm.state import State


def attach(runner: Any, state: State) -> None:
    """Its forward has the whole batch before it, and the hidden states go on from what it returns."""
    inner_forward, inner_execute = runner._model_forward, runner.execute_model
    inner_initialize = runner.initialize_kv_cache
    attention: list[Attention] = []

    def initialize_kv_cache(*args: Any, **kwargs: Any) -> Any:
        out = inner_initialize(*args, **kwargs)
        attention[:] = [Attention(runner.attn_groups)]
        return out

    def execute_model(scheduler_output: Any, *args: Any, **kwargs: Any) -> Any:
        for name in scheduler_output.finished_req_ids:
            state.finish(name)
        for new in scheduler_output.scheduled_new_reqs:
            state.add(new.req_id, new.sampling_params, len(new.prompt_token_ids))
        return inner_execute(scheduler_output, *args, **kwargs)

    def forward(
        input_ids: Tensor | None = None,
        positions: Tensor | None = None,
        intermediate_tensors: Any = None,
        inputs_embeds: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        if not state.requests:
            return inner_forward(input_ids, positions, intermediate_tensors, inputs_embeds, **kwargs)
        batch = runner.input_batch
        count = batch.num_reqs
        starts, computed = runner.query_start_loc.np[: count + 1], batch.num_computed_tokens_cpu[:count]
        step = state.begin(batch.req_ids, starts, computed)

        def call(tokens: Tensor) -> Tensor:
            return inner_forward(
                None if input_ids is None else input_ids.index_select(0, tokens),
                None if positions is None else positions.index_select(-1, tokens),
                None,
                None if inputs_embeds is None else inputs_embeds.index_select(0, tokens),
                **kwargs,
            )

        try:
            hidden = inner_forward(input_ids, positions, intermediate_tensors, inputs_embeds, **kwargs)
            if step.reading:
                rerun(state, attention[0], step, runner.vllm_config, call, hidden)
        finally:
            state.end()
        return hidden

    runner.execute_model, runner._model_forward = execute_model, forward
    runner.initialize_kv_cache = initialize_kv_cache
    runner.interv_state = state

"""Where stock vLLM is changed. Each place is looked up when plugins are loaded: without one, nothing starts."""

import functools
from collections.abc import Callable
from typing import Any

from interv_vllm import __version__, admission, caching
from interv_vllm.asking import KEY
from interv_vllm.layers import arm
from interv_vllm.refusals import configured, loaded
from interv_vllm.state import State

_applied: set[str] = set()


def apply() -> None:
    """In each of vLLM's processes; a second call changes nothing."""
    from vllm.engine.arg_utils import EngineArgs
    from vllm.v1.core.kv_cache_coordinator import KVCacheCoordinator
    from vllm.v1.core.kv_cache_manager import KVCacheManager
    from vllm.v1.engine.input_processor import InputProcessor
    from vllm.v1.worker.gpu_worker import Worker

    wrap(EngineArgs, "create_engine_config", create_engine_config)
    wrap(InputProcessor, "__init__", start_front_end)
    wrap(InputProcessor, "process_inputs", admission.process_inputs)
    wrap(KVCacheCoordinator, "cache_blocks", caching.cache_blocks)
    wrap(KVCacheManager, "get_computed_blocks", caching.get_computed_blocks)
    wrap(Worker, "load_model", load_model)


def wrap(owner: type, name: str, outer: Callable[..., Any]) -> None:
    """`outer(inner, self, ...)` in place of the method. Raises RuntimeError where there is none of this name."""
    place = f"{owner.__module__}.{owner.__qualname__}.{name}"
    if place in _applied:
        return
    inner = getattr(owner, name, None)
    if inner is None:
        raise RuntimeError(f"This vLLM has no {place}, which interv-vllm {__version__} needs; it was tested with 0.32.")

    @functools.wraps(inner)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        return outer(functools.partial(inner, self), self, *args, **kwargs)

    setattr(owner, name, wrapped)
    _applied.add(place)


def create_engine_config(inner: Callable[..., Any], self: Any, *args: Any, **kwargs: Any) -> Any:
    """What cannot be served is said before any process is started."""
    config = inner(*args, **kwargs)
    steerers = loaded(config)
    if steerers:
        # Part of what compiled graphs are kept under: one with other blocks in it would be taken for this one's.
        blocks = {block for steerer in steerers.values() for block in steerer.blocks}
        graph = f"{__version__} {sorted(blocks)}"
        config.additional_config = {**config.additional_config, f"{KEY}_graph": graph}
    return config


def start_front_end(inner: Callable[..., None], self: Any, *args: Any, **kwargs: Any) -> None:
    """Only a process that takes requests needs these, and they are slow to import."""
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.entrypoints.openai.completion.protocol import CompletionRequest
    from vllm.entrypoints.openai.responses.protocol import ResponsesRequest

    for body in (ChatCompletionRequest, CompletionRequest, ResponsesRequest):
        wrap(body, "build_tok_params", admission.build_tok_params)
        wrap(body, "to_sampling_params", admission.to_sampling_params)
    for body in (ChatCompletionRequest, CompletionRequest):
        wrap(body, "to_beam_search_params", admission.to_beam_search_params)
    inner(*args, **kwargs)
    admission.known.update(configured(self.vllm_config))


def load_model(inner: Callable[..., Any], self: Any, *args: Any, **kwargs: Any) -> Any:
    out = inner(*args, **kwargs)
    steerers = loaded(self.vllm_config)
    if steerers:
        runner, scheduler = self.model_runner, self.vllm_config.scheduler_config
        state = State(
            {name: steerer.to(runner.device) for name, steerer in steerers.items()},
            width=runner.model_config.hf_text_config.hidden_size,
            most_tokens=scheduler.max_num_batched_tokens + 1024,  # batches are filled up for graphs
            most_requests=scheduler.max_num_seqs,
            device=runner.device,
            dtype=runner.model_config.dtype,
            always=not runner.model_config.enforce_eager and runner.device.type != "cpu",
        )
        self.interv_held = state.held  # `collective_rpc("interv_held")` asks each worker
        arm(runner.get_model(), state)
        if self.use_v2_model_runner:
            from interv_vllm.v2 import attach
        else:
            from interv_vllm.v1 import attach
        attach(runner, state)
    return out

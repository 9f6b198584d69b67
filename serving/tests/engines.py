"""Engines by their settings, one at a time in a process, and requests to them."""

import gc
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from vllm import LLM, SamplingParams
from vllm.v1.request import RequestStatus

USUAL = {
    "dtype": "float32",
    "enforce_eager": True,
    "max_model_len": 256,
    "max_num_seqs": 128,
    "max_num_batched_tokens": 4096,
    "disable_log_stats": True,
}


class Engines:
    def __init__(self) -> None:
        self._settings: dict[str, Any] | None = None
        self._engine: LLM | None = None

    def of(self, model: str, steerers: dict[str, Any], **settings: Any) -> LLM:
        """An engine with these settings, in place of the one before where that has others."""
        wanted = {**USUAL, "model": model, "steer": steerers, **settings}
        if wanted != self._settings:
            self.close()
            given = {name: value for name, value in wanted.items() if name != "steer"}
            self._engine = LLM(**given, additional_config={"steer": dict(steerers)})
            self._settings = wanted
        assert self._engine is not None
        self._engine.reset_prefix_cache()
        return self._engine

    def close(self) -> None:
        if self._engine is not None:
            from vllm.distributed import cleanup_dist_env_and_memory

            self._engine.llm_engine.engine_core.shutdown()
            self._engine = self._settings = None
            gc.collect()
            cleanup_dist_env_and_memory()


def params(steerer: str | None, strength: float | None = None, tokens: int = 12, **settings: Any) -> SamplingParams:
    """Greedy, with the five likeliest tokens of every step."""
    extra = None if steerer is None else {"steer": steerer}
    if extra is not None and strength is not None:
        extra["steer_strength"] = strength
    usual = {"temperature": 0.0, "max_tokens": tokens, "logprobs": 5, "extra_args": extra}
    return SamplingParams(**{**usual, **settings})


def state_of(engine: LLM) -> Any:
    """The worker's, where it lives in this process."""
    return _core(engine).model_executor.driver_worker.worker.model_runner.interv_state


def preempt(engine: LLM, requests: Sequence[str]) -> None:
    """Take running requests out between two steps, as the scheduler does when memory is short."""
    scheduler = _core(engine).scheduler
    for request in [one for one in scheduler.running if one.request_id.startswith(tuple(requests))]:
        scheduler.running.remove(request)
        scheduler._preempt_request(request, time.monotonic(), drop_stale_output=True)
        scheduler.prev_step_scheduled_req_ids.discard(request.request_id)


@contextmanager
def preemptions(engine: LLM) -> Iterator[list[str]]:
    """The requests that the scheduler preempts meanwhile."""
    scheduler, names = _core(engine).scheduler, list[str]()
    inner = scheduler._preempt_request

    def noted(request: Any, *args: Any, **kwargs: Any) -> None:
        names.append(request.request_id)
        inner(request, *args, **kwargs)

    scheduler._preempt_request = noted
    yield names
    scheduler._preempt_request = inner


def cleared(engine: LLM) -> None:
    """Nothing is under way any more, whatever happened to the requests."""
    scheduler, state = _core(engine).scheduler, state_of(engine)
    engine.llm_engine.abort_request([*engine.llm_engine.output_processor.request_states], internal=True)
    scheduler.finish_requests([*scheduler.requests], RequestStatus.FINISHED_ABORTED)
    for name in [*state.requests, *state.table._rows_of]:
        state.requests.pop(name, None)
        state.table.release(name)
    state._used = True
    state.end()


def stepped(engine: LLM, requests: dict[str, tuple[Any, SamplingParams]], steps: int | None = None) -> dict[str, Any]:
    """Add requests by name, go on for so many steps or to the end, and give what is finished by then."""
    for name, (prompt, own) in requests.items():
        engine.llm_engine.add_request(name, prompt, own)
    done: dict[str, Any] = {}
    while engine.llm_engine.has_unfinished_requests() and steps != 0:
        done |= {output.request_id: output for output in engine.llm_engine.step() if output.finished}
        steps = None if steps is None else steps - 1
    return done


def _core(engine: LLM) -> Any:
    return engine.llm_engine.engine_core.engine_core


def apart(one: Any, other: Any) -> float:
    """The largest difference between the log-probabilities of two replies; infinite where their tokens differ."""
    first, second = one.outputs[0], other.outputs[0]
    if list(first.token_ids) != list(second.token_ids):
        return float("inf")
    return max(
        abs(own[token].logprob - given[token].logprob)
        for own, given in zip(first.logprobs, second.logprobs, strict=True)
        for token in own.keys() & given.keys()
    )

"""The front end: a request that cannot be steered as it asks is refused there, with HTTP 400 and a sentence."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from interv_vllm.asking import KEY, AskError, ask_of, check_known

known: set[str] = set()  # names of steerers, of all engines whose requests this process takes


def check_request(names: Mapping[str, Any], extra: Mapping[str, Any] | None, resumable: bool) -> None:
    """Raises AskError where the engine cannot do what a request asks for."""
    ask = ask_of(extra)
    if ask is None:
        return
    check_known(ask, names)
    if resumable:
        raise AskError("A prompt that goes on while it is answered cannot be steered; send it whole.")


def process_inputs(inner: Callable[..., Any], self: Any, *args: Any, **kwargs: Any) -> Any:
    """In place of InputProcessor.process_inputs, where every request of every interface passes."""
    given = inspect.signature(inner).bind(*args, **kwargs).arguments
    names = (self.vllm_config.additional_config or {}).get(KEY) or {}
    extra = getattr(given["params"], "extra_args", None)

    def check() -> None:
        try:
            check_request(names, extra, bool(given.get("resumable")))
        except AskError:
            _forget_images(self, given["prompt"])
            raise

    _refused(check)
    return inner(*args, **kwargs)


def build_tok_params(inner: Callable[..., Any], self: Any, *args: Any, **kwargs: Any) -> Any:
    """In place of a request body's own, which is called before its images are processed."""
    _refused(_check_fields, self)
    _refused(_check_names, self)
    if getattr(self, "use_beam_search", False):
        _refused(_check_beams, self)
    return inner(*args, **kwargs)


def to_sampling_params(inner: Callable[..., Any], self: Any, *args: Any, **kwargs: Any) -> Any:
    """In place of a request body's own: what stands beside `vllm_xargs` would be ignored."""
    _refused(_check_fields, self)
    return inner(*args, **kwargs)


def to_beam_search_params(inner: Callable[..., Any], self: Any, *args: Any, **kwargs: Any) -> Any:
    """In place of a request body's own: a beam is sent as a new prompt, without any arguments."""
    _refused(_check_fields, self)
    _refused(_check_beams, self)
    return inner(*args, **kwargs)


def _check_names(body: Any) -> None:
    ask = ask_of(getattr(body, "vllm_xargs", None))
    if ask is not None:
        check_known(ask, known)


def _forget_images(processor: Any, prompt: Any) -> None:
    """vLLM's front end takes images that it has processed for known to the engine, and sends them no second time."""
    hashes = (prompt.get("mm_hashes") if isinstance(prompt, Mapping) else None) or {}
    cache = processor.renderer.mm_processor_cache
    if cache is not None:
        for one in (one for some in hashes.values() for one in some):
            cache.invalidate(one)


def _check_fields(body: Any) -> None:
    stray = [field for field in body.model_extra or {} if field.lower().startswith(KEY)]
    if stray:
        raise AskError(f'{stray[0]!r} stands in the request itself; put it in "vllm_xargs": {{"{KEY}": ...}}.')


def _check_beams(body: Any) -> None:
    if ask_of(body.vllm_xargs) is not None:
        raise AskError("Beam search cannot be steered, since each beam is a prompt of its own; leave one of them out.")


def _refused(check: Callable[..., None], *args: Any) -> None:
    from vllm.exceptions import VLLMValidationError  # a plain ValueError becomes HTTP 500

    try:
        check(*args)
    except AskError as error:
        raise VLLMValidationError(str(error)) from error

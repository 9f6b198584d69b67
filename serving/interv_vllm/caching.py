"""The prefix cache beside steering: keys and values of steered tokens are never shared, and never taken from others.

Blocks of the prompt up to its last token are unsteered, whoever computed them, and stay shared: the image is computed
once for all steerers and strengths.
"""

from collections.abc import Callable
from typing import Any

from interv_vllm.asking import ask_of


def cache_blocks(inner: Callable[..., None], self: Any, request: Any, num_computed_tokens: int) -> None:
    """In place of KVCacheCoordinator.cache_blocks: what a request leaves for others."""
    inner(request, min(num_computed_tokens, shared(request)))


def get_computed_blocks(
    inner: Callable[..., Any], self: Any, request: Any, max_cache_hit_length: int | None = None
) -> Any:
    """In place of KVCacheManager.get_computed_blocks: what a request takes from others.

    A preempted one comes back with its own reply behind the prompt, and an unsteered twin may have left just that.
    """
    limit = shared(request)
    most = () if max_cache_hit_length is None else (min(max_cache_hit_length, limit),)  # since vLLM 0.33
    # vLLM takes one token less than there are.
    return inner(request if request.num_tokens - 1 <= limit else _Shortened(request, limit + 1), *most)


def shared(request: Any) -> int:
    """How many tokens of the request are as they would be without steering."""
    steered = ask_of(getattr(request.sampling_params, "extra_args", None)) is not None
    return request.num_prompt_tokens - 1 if steered else request.num_tokens


class _Shortened:
    """The request with fewer tokens."""

    def __init__(self, request: Any, num_tokens: int) -> None:
        self._request, self.num_tokens = request, num_tokens

    def __getattr__(self, name: str) -> Any:
        return getattr(self._request, name)

"""Over HTTP, with the engine in processes of its own: the same replies, and HTTP 400 with a sentence for the rest."""

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from PIL import Image

from server import Server, body, off, post, serving
from world import STEERED, TOLERANCE, World


@pytest.fixture(scope="module")
def server(llava: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with (tmp_path_factory.mktemp("server") / "log").open("w+") as log, serving(llava, log) as running:
        yield running


def test_concurrent_requests_equal_the_toolkit(server: Server, llava: World) -> None:
    cases = [*STEERED, (None, 1.0)]
    order = [(number, *cases[number % len(cases)]) for number in range(len(llava.rows))]
    with ThreadPoolExecutor(16) as pool:
        replies = [*pool.map(lambda case: post(server.url, body(llava, *case)), order)]
    for (number, steerer, strength), (status, reply) in zip(order, replies, strict=True):
        assert status == 200, reply
        assert off(llava.answers(steerer or "none", strength)[number], reply) < TOLERANCE


BAD: list[tuple[dict[str, Any], str]] = [
    ({"vllm_xargs": {"steer": "nobody"}}, "'nobody', which this engine has not loaded"),
    ({"vllm_xargs": {"steer": "mean", "steer_strength": "much"}}, "must be a number"),
    ({"vllm_xargs": {"steer": "mean", "steer_strength": 1e300}}, "finite number of at most"),
    ({"vllm_xargs": {"steer": "mean", "strength": 2, "steer_force": 2}}, "'steer_force' is no argument"),
    ({"steer": "mean"}, "'steer' stands in the request itself"),
    ({"vllm_xargs": {"steer": "mean"}, "use_beam_search": True, "n": 2}, "Beam search cannot be steered"),
]


@pytest.mark.parametrize(("fields", "sentence"), BAD)
def test_what_cannot_be_had_is_http_400(fields: dict[str, Any], sentence: str, server: Server, llava: World) -> None:
    """And the same image can be shown again: vLLM must not take it for known to the engine."""
    held = io.BytesIO()
    Image.effect_noise((72, 72), 50).convert("RGB").save(held, "PNG")
    status, reply = post(server.url, body(llava, 0, None, image=held.getvalue(), **fields))
    assert (status, sentence in reply["error"]["message"]) == (400, True), reply
    status, reply = post(server.url, body(llava, 0, None, image=held.getvalue()))
    assert status == 200, reply


def test_plain_completions_are_refused_alike(server: Server) -> None:
    asked = {"model": "llava", "prompt": "yes", "max_tokens": 2, "vllm_xargs": {"steer": "nobody"}}
    status, reply = post(server.url, asked, "/v1/completions")
    assert (status, "has not loaded" in reply["error"]["message"]) == (400, True), reply

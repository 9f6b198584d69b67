"""Over HTTP, with the engine in processes of its own: the same replies, and HTTP 400 with a sentence for the rest."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from server import Server, body, post, serving
from world import STEERED, TOLERANCE, World


@pytest.fixture(scope="module")
def server(llava: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with (tmp_path_factory.mktemp("server") / "log").open("w") as log, serving(llava, log) as running:
        yield running


def test_concurrent_requests_equal_the_toolkit(server: Server, llava: World) -> None:
    cases = [*STEERED, (None, 1.0)]
    order = [(number, *cases[number % len(cases)]) for number in range(len(llava.rows))]
    with ThreadPoolExecutor(16) as pool:
        replies = [*pool.map(lambda case: post(server.url, body(llava, *case)), order)]
    for (number, steerer, strength), (status, reply) in zip(order, replies, strict=True):
        assert status == 200, reply
        answer = llava.answers(steerer or "none", strength)[number]
        choice = reply["choices"][0]
        assert choice["token_ids"] == answer.token_ids
        said = [step["logprob"] for step in choice["logprobs"]["content"]]
        own = [logprobs[token].item() for logprobs, token in zip(answer.logprobs, answer.token_ids, strict=True)]
        assert max(abs(one - other) for one, other in zip(said, own, strict=True)) < TOLERANCE


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
    status, reply = post(server.url, body(llava, 0, None, **fields))
    assert (status, sentence in reply["error"]["message"]) == (400, True), reply


def test_plain_completions_are_refused_alike(server: Server) -> None:
    asked = {"model": "llava", "prompt": "yes", "max_tokens": 2, "vllm_xargs": {"steer": "nobody"}}
    status, reply = post(server.url, asked, "/v1/completions")
    assert (status, "has not loaded" in reply["error"]["message"]) == (400, True), reply

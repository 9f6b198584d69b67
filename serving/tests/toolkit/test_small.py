"""The small server answers as `methods.steer` does and refuses as the large one does; `verify` compares the two."""

import base64
import io
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import uvicorn
from PIL import Image
from starlette.testclient import TestClient

from interv import VLM, Prompt, Replies
from interv_vllm.small import application
from interv_vllm.verify import table, verify
from methods import L2S, MeanSteering, NoSteering, Steerer, steer


@pytest.fixture(scope="module")
def vlm() -> VLM:
    torch.set_num_threads(1)
    return VLM.load("tiny-llava")


@pytest.fixture(scope="module")
def steerers(vlm: VLM) -> dict[str, Steerer]:
    generator = torch.Generator().manual_seed(0)
    width = vlm.d_model

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) / shape[-1] ** 0.5

    learned = L2S(6, 3, vlm.fingerprint, drawn(16, width), drawn(16), 4 * drawn(width, 16))
    return {"l2s": learned, "mean": MeanSteering(3, 3, vlm.fingerprint, 2 * drawn(width))}


@pytest.fixture(scope="module")
def client(vlm: VLM, steerers: dict[str, Steerer]) -> TestClient:
    return TestClient(application(vlm, steerers, "tiny-llava"))


PROMPTS = [
    Prompt(Image.new("RGB", (48, 48), color), f"is there a {thing} in the image ?")
    for color, thing in [("red", "bus"), ("white", "goat"), ("navy", "ladle"), ("green", "bus")]
]


def body(prompt: Prompt, **fields: Any) -> dict[str, Any]:
    held = io.BytesIO()
    prompt.images()[0].save(held, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(held.getvalue()).decode()}"
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": prompt.question}]
    return {"messages": [{"role": "user", "content": content}], "max_tokens": 8, **fields}


def test_concurrent_requests_get_their_own_replies(client: TestClient, vlm: VLM, steerers: dict[str, Steerer]) -> None:
    cases = [(name, strength) for name in ("l2s", "mean", None) for strength in (1.0, 2.5)]
    asked = [(number, name, strength) for number in range(len(PROMPTS)) for name, strength in cases]

    def post(number: int, name: str | None, strength: float) -> str:
        xargs = {"vllm_xargs": {"steer": name, "steer_strength": strength}} if name else {}
        answer = client.post("/v1/chat/completions", json=body(PROMPTS[number], **xargs))
        assert answer.status_code == 200, answer.text
        return answer.json()["choices"][0]["message"]["content"]

    with ThreadPoolExecutor(8) as pool:
        replies = [*pool.map(lambda case: post(*case), asked)]

    def alone(name: str | None, strength: float) -> Replies:
        method = steerers[name] if name else NoSteering(0, 0, "")
        return steer(vlm, PROMPTS, method, strength=strength, max_new_tokens=8)

    single = {case: alone(*case) for case in cases}
    assert replies == [single[name, strength][number] for number, name, strength in asked]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"vllm_xargs": {"steer": "nobody"}}, "'nobody', which this engine has not loaded"),
        ({"vllm_xargs": {"steer": "mean", "steer_strength": "2"}}, "must be a number"),
        ({"steer": "mean"}, "'steer' is no field"),
        ({"use_beam_search": True}, "'use_beam_search' is no field"),
        ({"temperature": 0.7}, "greedily"),
        ({"max_tokens": 0.5}, "whole number"),
        ({"messages": []}, "the user's"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "data URL"),
    ],
)
def test_what_cannot_be_had_is_http_400(fields: dict[str, Any], sentence: str, client: TestClient) -> None:
    answer = client.post("/v1/chat/completions", json=body(PROMPTS[0]) | fields)
    assert (answer.status_code, sentence in answer.json()["error"]["message"]) == (400, True), answer.text


@pytest.fixture
def address(vlm: VLM, steerers: dict[str, Steerer]) -> Iterator[str]:
    config = uvicorn.Config(application(vlm, steerers, "tiny-llava"), port=0, log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def test_verify_finds_what_is_equal_and_what_is_not(address: str, vlm: VLM, steerers: dict[str, Steerer]) -> None:
    found = verify(vlm, PROMPTS, steerers["l2s"], address, name="l2s", strength=2.5, max_new_tokens=8)
    assert all(one.equal and one.off < 1e-3 for one in found)
    assert "4 of 4 replies have the same tokens" in table("l2s", found)
    others = verify(vlm, PROMPTS, steerers["l2s"], address, name="mean", strength=2.5, max_new_tokens=8)
    assert not all(one.equal and one.off < 1e-3 for one in others)
    with pytest.raises(RuntimeError, match=r"400.*has not loaded"):
        verify(vlm, PROMPTS[:1], steerers["l2s"], address, name="nobody")

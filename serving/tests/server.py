"""A real HTTP server in processes of its own, and requests to it."""

import base64
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from interv_vllm.own_server import end, free_port, wait
from world import Answer, World


class Server:
    def __init__(self, world: World, log: Any, *options: str, **environment: str) -> None:
        self.port, self._log = free_port(), log
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", world.model]
        command += ["--served-model-name", "llava", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--additional-config", json.dumps({"steer": world.steerers}), "--dtype", "float32"]
        command += ["--enforce-eager", "--max-model-len", "256", "--max-num-seqs", "64", *options]
        own = {**os.environ, **environment, "VLLM_ENABLE_V1_MULTIPROCESSING": "1"}
        self.process = subprocess.Popen(command, stdout=log, stderr=log, env=own, start_new_session=True)

    def wait(self) -> None:
        """Until it answers."""
        wait(self.process, self.url, self._log)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self, sign: int = signal.SIGTERM) -> None:
        end(self.process, sign)


@contextmanager
def serving(world: World, log: Any, *options: str, **environment: str) -> Iterator[Server]:
    server = Server(world, log, *options, **environment)
    try:
        server.wait()
        yield server
    finally:
        server.stop()


def body(
    world: World, number: int, steerer: str | None, strength: float = 1.0, image: bytes | None = None, **fields: Any
) -> dict[str, Any]:
    """A chat request about one of the world's prompts, or with another image, a PNG."""
    row = world.rows[number]
    shown = (world.folder / row["image"]).read_bytes() if image is None else image
    content = [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(shown).decode()}"}},
        {"type": "text", "text": row["question"]},
    ]
    own: dict[str, Any] = {"model": "llava", "messages": [{"role": "user", "content": content}]}
    own |= {"temperature": 0, "max_tokens": 12, "logprobs": True, "top_logprobs": 5, "return_token_ids": True}
    if steerer is not None:
        own["vllm_xargs"] = {"steer": steerer, "steer_strength": strength}
    return own | fields


def off(answer: Answer, reply: Mapping[str, Any]) -> float:
    """The largest difference of a log-probability of the reply's tokens; infinite where these are others."""
    choice = reply["choices"][0]
    if choice["token_ids"] != answer.token_ids:
        return float("inf")
    said = [step["logprob"] for step in choice["logprobs"]["content"]]
    own = [logprobs[token].item() for logprobs, token in zip(answer.logprobs, answer.token_ids, strict=True)]
    return max(abs(one - other) for one, other in zip(said, own, strict=True))


def post(
    url: str, fields: Mapping[str, Any], path: str = "/v1/chat/completions", timeout: float = 300
) -> tuple[int, dict[str, Any]]:
    """Status and answer, errors too."""
    data = json.dumps(fields).encode()
    request = urllib.request.Request(url + path, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())

"""Prompts of the toolkit as chat requests, and a server's answers."""

import base64
import io
import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any


def model_of(url: str) -> str:
    """The server's name for the model, its first where it has several."""
    with urllib.request.urlopen(f"{url}/v1/models", timeout=60) as answer:
        return json.loads(answer.read())["data"][0]["id"]


def asked(url: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """The choice that answers a chat request. Raises RuntimeError with the server's sentence where it refuses it."""
    request = urllib.request.Request(
        f"{url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=600) as answer:
            return json.loads(answer.read())["choices"][0]
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"The engine answered {error.code}: {error.read().decode()}") from error


def request_of(prompt: Any, model: str, tokens: int, xargs: Mapping[str, Any] | None) -> dict[str, Any]:
    """The prompt as a chat request; greedy, with token ids and log-probabilities."""
    images = iter(prompt.images())
    messages = [
        {"role": one["role"], "content": [_part(part, images) for part in one["content"]]} for one in prompt.messages()
    ]
    body: dict[str, Any] = {"model": model, "messages": messages}
    body |= {"temperature": 0, "max_tokens": tokens, "logprobs": True, "top_logprobs": 1, "return_token_ids": True}
    if prompt.answer:
        body |= {"add_generation_prompt": False, "continue_final_message": True}
    return body if xargs is None else body | {"vllm_xargs": dict(xargs)}


def _part(part: Mapping[str, Any], images: Iterator[Any]) -> dict[str, Any]:
    if part["type"] != "image":
        return dict(part)
    held = io.BytesIO()
    next(images).save(held, "PNG")
    data = base64.b64encode(held.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}

"""A small server around `methods.steer`, where vLLM is not wanted: the same addresses, fields and refusals.

    pip install 'interv-vllm[small]'        # in the toolkit's environment
    python -m interv_vllm small caution=steerers/caution --model tiny-llava

Whole replies in batches, greedy, no paged memory and no streaming: for one user or a few.
"""

import asyncio
import base64
import io
from collections.abc import Mapping
from typing import Any

from interv_vllm.admission import check_request
from interv_vllm.asking import KEY, AskError, ask_of
from interv_vllm.batches import UNSTEERED, Batches, Waiting

FIELDS = {"model", "messages", "max_tokens", "max_completion_tokens", "temperature", "n", "stream", "seed", "user"}
FIELDS |= {"vllm_xargs", "logprobs", "top_logprobs", "return_token_ids"}
LONGEST = 1024  # tokens of a reply


def application(vlm: Any, steerers: Mapping[str, Any], name: str) -> Any:
    """The server as an ASGI application. `name` is what the model is called."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    batches = Batches(vlm, dict(steerers))

    async def chat(request: Request) -> JSONResponse:
        try:
            body = await request.json()
            waiting = waiting_of(body, steerers)
            batches.put(waiting)
            return JSONResponse(answer_of(body, await asyncio.wrap_future(waiting.reply), name))
        except (ValueError, TypeError) as error:  # of JSON too
            return JSONResponse({"error": {"message": str(error), "type": "BadRequestError", "code": 400}}, 400)

    async def models(request: Request) -> JSONResponse:
        return JSONResponse({"object": "list", "data": [{"id": name, "object": "model"}]})

    async def health(request: Request) -> JSONResponse:
        return JSONResponse({})

    return Starlette(
        routes=[
            Route("/v1/chat/completions", chat, methods=["POST"]),
            Route("/v1/models", models),
            Route("/health", health),
        ]
    )


def waiting_of(body: Any, steerers: Mapping[str, Any]) -> Waiting:
    """What a request's body asks for. Raises ValueError with a sentence where it cannot be had."""
    if not isinstance(body, Mapping):
        raise AskError("A request is a JSON object with messages.")
    if unknown := sorted(body.keys() - FIELDS):
        hint = f' Put it in "vllm_xargs": {{"{KEY}": ...}}.' if unknown[0].lower().startswith(KEY) else ""
        raise AskError(f"{unknown[0]!r} is no field of this small server.{hint}")
    if body.get("temperature", 0) != 0 or body.get("n", 1) != 1 or body.get("stream"):
        raise AskError("This small server answers greedily, whole and once: temperature 0, n 1, no stream.")
    xargs = body.get("vllm_xargs")
    check_request(steerers, xargs, resumable=False)
    tokens = body.get("max_completion_tokens") or body.get("max_tokens") or 64
    if type(tokens) is not int or not 0 < tokens <= LONGEST:
        raise AskError(f"max_tokens is {tokens!r}; it must be a whole number from 1 to {LONGEST}.")
    return Waiting(prompt_of(body.get("messages")), ask_of(xargs) or UNSTEERED, tokens)


def prompt_of(messages: Any) -> Any:
    """The toolkit's prompt: the last turn is the question, those before it the history."""
    from interv import Prompt

    if not isinstance(messages, list) or not messages or messages[-1].get("role") != "user":
        raise AskError("messages must be a list whose last turn is the user's.")
    turns = [{"role": one.get("role"), "content": [_part(part) for part in _parts(one)]} for one in messages]
    *before, last = turns
    system = before.pop(0)["content"][0]["text"] if before and before[0]["role"] == "system" else None
    images = [part["image"] for part in last["content"] if part["type"] == "image"]
    question = " ".join(part["text"] for part in last["content"] if part["type"] == "text")
    return Prompt(images or None, question, system=system, history=before)


def answer_of(body: Mapping[str, Any], reply: tuple[str, list[int], list[float], str], name: str) -> dict[str, Any]:
    """As OpenAI's, with vLLM's `token_ids`."""
    text, ids, logprobs, reason = reply
    choice: dict[str, Any] = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": reason}
    if body.get("return_token_ids"):
        choice["token_ids"] = ids
    if body.get("logprobs"):
        choice["logprobs"] = {"content": [{"logprob": one} for one in logprobs]}
    return {"object": "chat.completion", "model": name, "choices": [choice]}


def _parts(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    content = message.get("content")
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise AskError("The content of a message is a text, or a list of parts.")
    return content


def _part(part: Mapping[str, Any]) -> dict[str, Any]:
    from PIL import Image

    if part.get("type") == "text" and isinstance(part.get("text"), str):
        return dict(part)
    url = (part.get("image_url") or {}).get("url", "") if part.get("type") == "image_url" else ""
    head, comma, data = url.partition(";base64,")
    if not comma or not head.startswith("data:image/"):
        raise AskError("A part of a message is a text or an image_url with a data URL, data:image/png;base64,...")
    try:
        image = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
        image.load()
    except OSError as error:
        raise AskError(f"An image cannot be read ({error}).") from error
    return {"type": "image", "image": image}

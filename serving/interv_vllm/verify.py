"""`verify`: a running engine against the toolkit, on your own model, steerer and machine.

It runs in the toolkit's environment and asks the engine over HTTP, in chat messages, so that the engine's template and
image processor are compared as well.
"""

import base64
import io
import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from interv_vllm.asking import KEY, STRENGTH


@dataclass(frozen=True)
class Verified:
    """One prompt: the two replies, and how far the log-probabilities of the common tokens are apart.

    Attributes:
        off: the largest difference up to the first token in which they differ.
        at: the step of that token, None where there is none.
    """

    prompt: str
    toolkit: str
    engine: str
    off: float
    at: int | None

    @property
    def equal(self) -> bool:
        return self.at is None


def verify(
    vlm: Any,
    prompts: Sequence[Any],
    steerer: Any,
    url: str,
    *,
    name: str | None,
    strength: float = 1.0,
    max_new_tokens: int = 32,
    model: str | None = None,
) -> list[Verified]:
    """Ask the toolkit and the engine the same, prompt by prompt.

    Args:
        vlm: the toolkit's `VLM` of the model that the engine serves, in the precision that it serves it in.
        steerer: what `load_steerer` gives; `NoSteering` for unsteered replies.
        url: of the server, without /v1.
        name: of the same steerer there; None asks without steering.
        model: the server's name for the model, its only one by default.

    Raises RuntimeError with the engine's sentence where it refuses a request.
    """
    from methods import steer

    model = model or _get(f"{url}/v1/models")["data"][0]["id"]
    replies = steer(vlm, prompts, steerer, strength=strength, max_new_tokens=max_new_tokens, logits=True)
    assert replies.logits is not None
    found = []
    for prompt, text, ids, logits in zip(prompts, replies, replies.token_ids, replies.logits, strict=True):
        xargs = None if name is None else {KEY: name, STRENGTH: strength}
        choice = _post(f"{url}/v1/chat/completions", request_of(prompt, model, max_new_tokens, xargs))["choices"][0]
        off, at = compared(ids, logits.float().log_softmax(-1), choice)
        found.append(Verified(prompt.question, text, choice["message"]["content"] or "", off, at))
    return found


def compared(ids: Sequence[int], logprobs: Any, choice: Mapping[str, Any]) -> tuple[float, int | None]:
    """How far the log-probabilities are apart up to the first token that differs, and where that is."""
    said, steps = choice["token_ids"], choice["logprobs"]["content"]
    pairs = [*zip(ids, said, strict=False)]
    at = next((step for step, (own, other) in enumerate(pairs) if own != other), None)
    if at is None and len(ids) != len(said):
        at = len(pairs)
    common = pairs[:at]
    off = [abs(logprobs[step, token].item() - steps[step]["logprob"]) for step, (token, _) in enumerate(common)]
    return max(off, default=0.0), at


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


def table(title: str, found: Sequence[Verified]) -> str:
    """A line for all, and one for each reply that differs."""
    equal = sum(one.equal for one in found)
    off = max((one.off for one in found), default=0.0)
    lines = [f"{title}: {equal} of {len(found)} replies have the same tokens; log-probabilities within {off:.1e}"]
    lines += [f"  token {one.at}: {one.toolkit!r} -> {one.engine!r}  ({one.prompt})" for one in found if not one.equal]
    return "\n".join(lines)


def _part(part: Mapping[str, Any], images: Iterator[Any]) -> dict[str, Any]:
    if part["type"] != "image":
        return dict(part)
    held = io.BytesIO()
    next(images).save(held, "PNG")
    data = base64.b64encode(held.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return json.loads(answer.read())


def _post(url: str, body: Mapping[str, Any]) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=600) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"The engine answered {error.code}: {error.read().decode()}") from error

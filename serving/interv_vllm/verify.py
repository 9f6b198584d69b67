"""`verify`: a running engine against the toolkit, on your own model, steerer and machine.

It runs in the toolkit's environment and asks the engine over HTTP, in chat messages, so that the engine's template and
image processor are compared as well.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from interv_vllm.asking import KEY, STRENGTH
from interv_vllm.client import asked, model_of, request_of


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

    model = model or model_of(url)
    replies = steer(vlm, prompts, steerer, strength=strength, max_new_tokens=max_new_tokens, logits=True)
    assert replies.logits is not None
    found = []
    for prompt, text, ids, logits in zip(prompts, replies, replies.token_ids, replies.logits, strict=True):
        xargs = None if name is None else {KEY: name, STRENGTH: strength}
        choice = asked(url, request_of(prompt, model, max_new_tokens, xargs))
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


def table(title: str, found: Sequence[Verified]) -> str:
    """A line for all, and one for each reply that differs."""
    equal = sum(one.equal for one in found)
    off = max((one.off for one in found), default=0.0)
    lines = [f"{title}: {equal} of {len(found)} replies have the same tokens; log-probabilities within {off:.1e}"]
    lines += [f"  token {one.at}: {one.toolkit!r} -> {one.engine!r}  ({one.prompt})" for one in found if not one.equal]
    return "\n".join(lines)

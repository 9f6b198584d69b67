"""The whole of steering in one call: prefill, query, ops, reply."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from interv import VLM, Prompt, Replies, Site
from methods.steerer import Query, Steerer, Strength


def steer(
    vlm: VLM,
    prompts: Sequence[Prompt],
    steerer: Steerer,
    *,
    strength: Strength = 1.0,
    max_new_tokens: int = 64,
    vectors: Float[Tensor, "batch d_model"] | None = None,
    contexts: Sequence[Prompt] | None = None,
) -> Replies:
    """Answer the prompts, steered; each by its own context, all in one batch.

    Args:
        strength: in multiples of the contrast vector; a number, or one a prompt.
        vectors: the inputs' own contrast vectors, for the oracle alone.
        contexts: prompts to read the context from, where it is not read from those that are answered; they cost a
            pass of their own.
    """
    site = Site(steerer.reads)
    prefill = vlm.prefill([steerer.rewrite(prompt) for prompt in prompts], reads=[site])
    context = prefill.captured[site] if contexts is None else vlm.capture(contexts, [site])[site]
    ops = steerer.ops(Query(context, vectors), strength)
    return vlm.generate(prefill, ops, max_new_tokens=max_new_tokens)

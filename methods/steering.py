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
) -> Replies:
    """Answer the prompts, steered; each by its own context, all in one batch.

    `vectors` are the inputs' own contrast vectors, for the oracle alone.
    """
    prefill = vlm.prefill([steerer.rewrite(prompt) for prompt in prompts], reads=[Site(steerer.reads)])
    ops = steerer.ops(Query(prefill.captured[Site(steerer.reads)], vectors), strength)
    return vlm.generate(prefill, ops, max_new_tokens=max_new_tokens)

"""The whole of steering in one call: prefill, query, ops, reply."""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from interv import VLM, Prompt, Replies
from interv.prompts.rendering import PromptError
from interv.running.checks import check_prompts
from methods.asking import ask
from methods.steerer import Steerer, Strength


def steer(
    vlm: VLM,
    prompts: Sequence[Prompt],
    steerer: Steerer,
    *,
    strength: Strength = 1.0,
    max_new_tokens: int = 64,
    vectors: Float[Tensor, "batch d_model"] | None = None,
    contexts: Sequence[Prompt] | None = None,
    batch_size: int | None = None,
    seed: int | None = None,
    **options: Any,
) -> Replies:
    """Answer the prompts, steered; each by its own context.

    Args:
        strength: in multiples of the contrast vector; a number, or one a prompt.
        vectors: the inputs' own contrast vectors, for the oracle alone.
        contexts: prompts to read the context from, where it is not read from those that are answered; they cost a
            pass of their own.
        batch_size: how many prompts run at once; all by default. Replies of several batches are joined in order, and
            then have texts, tokens and finish reasons, but neither `logits` nor `captured`.
        seed: of the sampling in the first batch; each further batch has the next number.
        options: what else `vlm.generate` takes, as `do_sample` or `stop_strings`.

    Raises ValueError where strengths, vectors or contexts are not one a prompt, where logits are asked of several
    batches, and as `vlm.generate` does.
    """
    check_prompts(prompts, vlm.model)
    strengths = strength if isinstance(strength, Tensor) and strength.ndim else None
    for name, own in (("strengths", strengths), ("vectors", vectors), ("contexts", contexts)):
        if own is not None and len(own) != len(prompts):
            raise ValueError(f"There are {len(own)} {name} for {len(prompts)} prompts; give one a prompt.")
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1, or None for one batch of all prompts.")
    if batch_size is None or len(prompts) <= batch_size:
        asked = ask(vlm, [steerer.rewrite(prompt) for prompt in prompts], [steerer], contexts)
        run = asked.run(steerer, strength, vectors)
        return asked.answered(vlm, [run], max_new_tokens=max_new_tokens, seed=seed, **options)
    if options.get("logits"):
        raise ValueError("The logits of several batches are not joined; leave batch_size out, or call steer for each.")
    batches = []
    for number, start in enumerate(range(0, len(prompts), batch_size)):
        rows = slice(start, start + batch_size)
        try:
            replies = steer(
                vlm,
                prompts[rows],
                steerer,
                strength=strength if strengths is None else strengths[rows],
                max_new_tokens=max_new_tokens,
                vectors=None if vectors is None else vectors[rows],
                contexts=None if contexts is None else contexts[rows],
                seed=None if seed is None else seed + number,
                **options,
            )
        except PromptError as error:
            raise PromptError(start + error.index, error.reason) from error
        batches.append(replies)
    return Replies(
        [text for replies in batches for text in replies],
        [ids for replies in batches for ids in replies.token_ids],
        [reason for replies in batches for reason in replies.finish_reason],
    )

"""What a method may look at in the prompt: a site, and which tokens make its state."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from interv import VLM, Capture, Prefill, Prompt, Scope, Site
from interv.prompts.encoding import Encoded

Pool = Literal["last_prompt", "prompt", "text"]


@dataclass(frozen=True)
class Read:
    """One state of each prompt.

    Args:
        site: where.
        pool: "last_prompt" is the last token's; "prompt" the mean over all tokens, image tokens too, which outnumber
            the others by far; "text" the mean over those that are no image. Padding counts in none.
    """

    site: Site
    pool: Pool = "last_prompt"

    def __post_init__(self) -> None:
        if self.pool not in get_args(Pool):
            raise ValueError(f"{self.pool!r} is no pool of a prompt; there are {', '.join(get_args(Pool))}.")


States = Mapping[Read, Float[Tensor, "batch width"]]


def captures(reads: Sequence[Read]) -> dict[Read, Capture]:
    """By read, the capture that it is made from; a site's means are made from one."""
    of = {
        (read.site, read.pool == "last_prompt"): Capture(
            read.site, "last_prompt" if read.pool == "last_prompt" else "prompt"
        )
        for read in reads
    }
    return {read: of[read.site, read.pool == "last_prompt"] for read in reads}


def states_of(prefill: Prefill, reads: Sequence[Read], taken: Mapping[Read, Capture], rows: int) -> States:
    """The states of the prefill's first rows."""
    return {read: pooled(read.pool, prefill.captured[taken[read]], prefill.encoded)[:rows] for read in reads}


def pooled(pool: Pool, values: Tensor | list[Tensor], encoded: Encoded) -> Float[Tensor, "batch width"]:
    """One state a row, of that row's own tokens; means are taken in float32."""
    if isinstance(values, Tensor):
        return values
    rows = []
    for row, tokens in enumerate(values):
        image = encoded.image_mask[row][encoded.attention_mask[row].bool()].to(tokens.device)
        chosen = tokens[~image] if pool == "text" else tokens
        rows.append(chosen.mean(dim=0, dtype=torch.float32))
    return torch.stack(rows)


def contexts_of(
    vlm: VLM, prompts: Sequence[Prompt], layers: Sequence[int], pool: Pool, batch_size: int = 8
) -> Float[Tensor, "prompts layers d_model"]:
    """The prompts' states leaving these blocks: what `ContrastBank.reading` puts in the place of the contexts."""
    kinds: Scope = "last_prompt" if pool == "last_prompt" else "prompt"
    parts = []
    for start in range(0, len(prompts), batch_size):
        encoded = vlm.encode(prompts[start : start + batch_size])
        found = vlm.capture(encoded, [Site(layer) for layer in layers], tokens=kinds)
        parts.append(torch.stack([pooled(pool, values, encoded).float().cpu() for values in found.values()], dim=1))
    return torch.cat(parts)

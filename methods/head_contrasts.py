"""What each head says at the end of a wanted and of an unwanted completion."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interv import VLM, Prompt, Site
from interv.display import OneLine
from methods.contrasts.pair import ContrastPair


@dataclass(frozen=True, eq=False)
class HeadContrasts(OneLine):
    """Outputs z of all heads of all blocks, before the output projection, at the last token of each completion."""

    positive: Float[Tensor, "pairs layers heads d_head"]
    negative: Float[Tensor, "pairs layers heads d_head"]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.positive)

    def shown(self) -> dict[str, Any]:
        layers, heads, width = self.positive.shape[1:]
        return {"pairs": len(self), "layers": layers, "heads": heads, "width": width}

    def rows(self, index: Sequence[int]) -> "HeadContrasts":
        """These rows, in this order."""
        chosen = list(index)
        return replace(self, positive=self.positive[chosen], negative=self.negative[chosen])


def capture_heads(vlm: VLM, pairs: Sequence[ContrastPair], *, batch_size: int = 8) -> HeadContrasts:
    """Read every head at the last token of both completions of each pair. Raises ValueError for no pairs."""
    if not pairs:
        raise ValueError("There are no contrast pairs; give at least one.")
    positive = _heads(vlm, [pair.positive for pair in pairs], batch_size)
    return HeadContrasts(positive, _heads(vlm, [pair.negative for pair in pairs], batch_size), vlm.fingerprint)


def _heads(vlm: VLM, prompts: Sequence[Prompt], batch_size: int) -> Float[Tensor, "prompts layers heads d_head"]:
    heads = vlm.model.config.get_text_config().num_attention_heads
    sites = [Site(layer, "hook_z") for layer in range(vlm.n_layers)]
    parts = []
    for start in range(0, len(prompts), batch_size):
        found = vlm.capture(prompts[start : start + batch_size], sites)
        parts.append(torch.stack([found[site].float().cpu() for site in sites], dim=1))
    return torch.cat(parts).unflatten(-1, (heads, -1))

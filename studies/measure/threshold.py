"""The best answer that one threshold on a number can give."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def best_threshold(margins: Float[Tensor, " examples"], yes: Bool[Tensor, " examples"]) -> float:
    """The threshold above which most of the margins are of a "yes" and below of a "no"; the middle of equals."""
    ordered = margins.sort()
    yes = yes[ordered.indices]
    # With the threshold below the i-th margin, all from i on are answered "yes"; between two equal ones none can lie.
    right = torch.cat([torch.zeros(1), (~yes).float().cumsum(0)]) + torch.cat(
        [yes.float().flip(0).cumsum(0).flip(0), torch.zeros(1)]
    )
    edges = torch.cat([ordered.values[:1] - 1, ordered.values, ordered.values[-1:] + 1])
    right = right.where(edges[:-1] < edges[1:], -1)
    best = (right == right.max()).nonzero().flatten()
    index = int(best[len(best) // 2])
    return float((edges[index] + edges[index + 1]) / 2)

"""Many ways of steering the same prompts, as the rows of one batch."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from interv.ops import Add


def stack(runs: Sequence[Sequence[Add]], rows: int) -> list[Add]:
    """The ops of several runs over the same `rows` prompts, for a batch that holds the prompts once a run.

    Row `r * rows + i` of the batch is prompt i as run r steers it: decode from
    `prefill.select([*range(rows)] * len(runs))`. A run without an op at another run's site adds zero there, which
    changes nothing.

    Raises ValueError where an op is made for another number of rows, or rescales what it changes, which zero would not.
    """
    stacked: dict[tuple, Add] = {}
    for number, ops in enumerate(runs):
        seen: dict[tuple, int] = {}
        for op in ops:
            if op.renormalise:
                raise ValueError(f"The op at {op.site} renormalises; run it by itself.")
            if op.rows not in (None, rows):
                raise ValueError(f"The op at {op.site} is made for {op.rows} rows, the runs for {rows}.")
            place = (op.site, op.scope)
            seen[place] = seen.get(place, -1) + 1
            blank = replace(op, vector=op.vector.new_zeros(len(runs) * rows, op.vector.shape[-1]), strength=1.0)
            merged = stacked.setdefault((*place, seen[place]), blank)
            strength = op.strength[:, None] if isinstance(op.strength, torch.Tensor) else op.strength
            merged.vector[number * rows : (number + 1) * rows] = strength * op.vector
    return list(stacked.values())

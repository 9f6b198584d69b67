"""Many ways of steering the same prompts, as the rows of one batch."""

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce

import torch

from interv.edits import Add


def stack(runs: Sequence[Sequence[Add]], rows: int) -> list[Add]:
    """The ops of several runs over the same `rows` prompts, for a batch that holds the prompts once a run.

    Row `r * rows + i` of the batch is prompt i as run r steers it: decode from
    `prefill.select([*range(rows)] * len(runs))`. A run without an op at another run's site adds zero there, which
    changes nothing.

    Raises ValueError where an op is made for another number of rows, rescales what it changes, which zero would not, or
    comes from another model than the others; TypeError for an op that is no `Add`.
    """
    every = [op for ops in runs for op in ops if isinstance(op, Add)]
    dtype = reduce(torch.promote_types, (op.vector.dtype for op in every), torch.float32)
    models = {op.fingerprint for op in every if op.fingerprint}
    if len(models) > 1:
        raise ValueError(f"The runs' ops were captured from models {', '.join(sorted(models))}; stack those of one.")
    fingerprint = next(iter(models), None)
    stacked: dict[tuple, Add] = {}
    for number, ops in enumerate(runs):
        seen: dict[tuple, int] = {}
        for op in ops:
            if not isinstance(op, Add):
                raise TypeError(f"{type(op).__name__} at {op.site} has no vector of zeros; run it by itself.")
            if op.renormalise:
                raise ValueError(f"The op at {op.site} renormalises; run it by itself.")
            if op.rows not in (None, rows):
                raise ValueError(f"The op at {op.site} is made for {op.rows} rows, the runs for {rows}.")
            place = (op.site, op.scope)
            seen[place] = seen.get(place, -1) + 1
            zeros = op.vector.new_zeros(len(runs) * rows, op.vector.shape[-1], dtype=dtype)
            blank = replace(op, vector=zeros, strength=1.0, fingerprint=fingerprint)
            merged = stacked.setdefault((*place, seen[place]), blank)
            merged.vector[number * rows : (number + 1) * rows] = op.shift
    return list(stacked.values())

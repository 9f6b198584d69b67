"""Many ways of steering the same prompts, as the rows of one batch."""

from collections.abc import Sequence
from dataclasses import fields, replace
from functools import reduce
from typing import Any

import torch

from interv.ops.attention_edits import AttentionEdit
from interv.ops.edits import Add
from interv.ops.op import Op


def stack(runs: Sequence[Sequence[Op]], rows: int) -> list[Add | AttentionEdit]:
    """The ops of several runs over the same `rows` prompts, for a batch that holds the prompts once a run.

    Row `r * rows + i` of the batch is prompt i as run r steers it: decode from
    `prefill.select([*range(rows)] * len(runs))`. A run without an op at another run's site adds zero there, or has
    strength 0 in its edit of attention, which changes nothing.

    Raises ValueError where an op is made for another number of rows, rescales what it changes, which zero would not, or
    comes from another model than the others; TypeError for an op that is neither.
    """
    every = [op for ops in runs for op in ops]
    dtype = reduce(torch.promote_types, (op.vector.dtype for op in every if isinstance(op, Add)), torch.float32)
    models = {mark for op in every if (mark := getattr(op, "fingerprint", None))}
    if len(models) > 1:
        raise ValueError(f"The runs' ops were captured from models {', '.join(sorted(models))}; stack those of one.")
    fingerprint = next(iter(models), None)
    total = len(runs) * rows
    stacked: dict[tuple, Any] = {}
    for number, ops in enumerate(runs):
        own = slice(number * rows, (number + 1) * rows)
        seen: dict[tuple, int] = {}
        for op in ops:
            if not isinstance(op, Add | AttentionEdit):
                raise TypeError(f"{type(op).__name__} at {op.site} has no vector of zeros; run it by itself.")
            if op.rows not in (None, rows):
                raise ValueError(f"The op at {op.site} is made for {op.rows} rows, the runs for {rows}.")
            place = _place(op)
            seen[place] = seen.get(place, -1) + 1
            key = (*place, seen[place])
            if isinstance(op, Add):
                if key not in stacked:
                    zeros = op.vector.new_zeros(total, op.vector.shape[-1], dtype=dtype)
                    stacked[key] = replace(op, vector=zeros, strength=1.0, fingerprint=fingerprint)
                stacked[key].vector[own] = op.shift
            else:
                if key not in stacked:
                    stacked[key] = replace(op, strength=torch.zeros(total), fingerprint=fingerprint)  # type: ignore[type-var]
                stacked[key].strength[own] = torch.as_tensor(op.strength, dtype=torch.float32)
    return list(stacked.values())


def _place(op: Add | AttentionEdit) -> tuple:
    """What ops have in common that become one."""
    if isinstance(op, Add):
        if op.renormalise:
            raise ValueError(f"The op at {op.site} renormalises; run it by itself.")
        return (Add, op.site, op.scope)
    own = [field.name for field in fields(op) if field.name not in ("strength", "fingerprint")]  # type: ignore[arg-type]
    return (type(op), *(getattr(op, name) for name in own))

"""What is checked before a method learns: that there is something to learn from, of finite numbers."""

import torch

from methods.contrasts.contrasts import Contrasts
from methods.contrasts.sharded import AnyContrasts, ShardedContrasts

ROWS = 256  # looked at together; of contrasts in shards no more is in memory


class DoesNotApply(ValueError):
    """A method finds nothing to learn from in what it was given, though nothing is wrong with it: it says why.

    Such as a method that learns from mistakes, where there are none. A comparison leaves it out with its sentence.
    """


def check_contrasts(contrasts: AnyContrasts, what: str = "training") -> None:
    """Raise ValueError where there are no contrasts, or where some are not of finite numbers, naming up to three."""
    if not len(contrasts):
        raise ValueError(f"There are no {what} contrasts; give at least one.")
    parts = contrasts.parts if isinstance(contrasts, ShardedContrasts) else (contrasts,)
    odd = [row for row, fine in enumerate(fine for part in parts for fine in _finite(part)) if not fine]
    if odd:
        named = ", ".join(repr(contrasts.id[row]) if contrasts.id[row] else f"row {row}" for row in odd[:3])
        raise ValueError(
            f"{len(odd)} of {len(contrasts)} {what} contrasts hold NaN or infinite numbers: "
            f"{named}{' and others' if len(odd) > 3 else ''}. Leave them out, or capture them again; a model in "
            "float16 may need bfloat16 or float32, whose range is wider."
        )


def _finite(contrasts: Contrasts) -> list[bool]:
    """For each row, whether all its numbers are finite."""
    found: list[bool] = []
    for start in range(0, len(contrasts), ROWS):
        rows = contrasts.rows(range(start, min(start + ROWS, len(contrasts))))
        tensors = [rows.context, rows.vectors] + ([] if rows.agnostic is None else [rows.agnostic])
        found += torch.stack([tensor.isfinite().all(dim=1) for tensor in tensors]).all(dim=0).tolist()
    return found

"""Vectors by row, where the steered blocks look them up: a row a request of the batch, the others' are kept aside."""

from collections import OrderedDict
from collections.abc import Collection

import torch
from torch import Tensor


class Table:
    """Row 0 is zero for ever. A graph that was captured reads `rows` where it lies, so it never moves or grows.

    It has a row for every request that one step can hold. More may be alive, preempted ones: when there is no row left,
    the request that has gone longest without a step gives up its own, and gets another when it is in a step again.
    """

    def __init__(self, capacity: int, width: int, device: torch.device, dtype: torch.dtype) -> None:
        self.rows = torch.zeros(capacity + 1, width, device=device, dtype=dtype)
        self._free = list(range(capacity, 0, -1))
        self._rows_of: OrderedDict[str, int] = OrderedDict()  # longest without a step first
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._rows_of)

    @property
    def free(self) -> int:
        return len(self._free)

    def place(self, request: str, vector: Tensor, batch: Collection[str]) -> int:
        """The row that holds this request's vector; those of the batch keep theirs."""
        row = self._rows_of.get(request)
        if row is None:
            row = self._free.pop() if self._free else self._evict(batch)
            self._rows_of[request] = row
            self.rows[row].copy_(vector)
        self._rows_of.move_to_end(request)
        return row

    def release(self, request: str) -> None:
        """The request is over, however it ended."""
        row = self._rows_of.pop(request, None)
        if row is not None:
            self.rows[row].zero_()
            self._free.append(row)

    def _evict(self, batch: Collection[str]) -> int:
        self.evicted += 1
        idle = next(request for request in self._rows_of if request not in batch)
        return self._rows_of.pop(idle)

"""The worker's side: which token of a step is steered with what, and whose last prompt token is read."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interv_vllm.asking import ask_of
from interv_vllm.steerers import Constant, Learned, Steerer
from interv_vllm.table import Table


@dataclass
class Request:
    """A steered request from its first step to its end, preempted or not.

    `vector` is its own, strength included, [width] in float32, from when it is known.
    """

    steerer: Constant | Learned
    strength: float
    prompt_length: int
    vector: Tensor | None = None

    @property
    def begins(self) -> int:
        """The first position that is steered."""
        return self.prompt_length - (self.steerer.scope == "response")


@dataclass(frozen=True)
class Reading:
    """A request whose last prompt token is in this step: its place in the batch, and that token's."""

    name: str
    request: Request
    row: int
    token: int


@dataclass
class Step:
    """What one forward holds: by block, the table's row of each token; and what is read."""

    batch: Collection[str]
    tokens: int
    rows: dict[int, np.ndarray] = field(default_factory=dict)
    reading: list[Reading] = field(default_factory=list)


class State:
    """All that is known in one worker.

    Attributes:
        states: by block that is read, [requests, width]: what left it at the tokens `last`.
        rows: by block that is steered, [tokens]: the row of the table that is added to each token of the forward.
        always: blocks act in every forward, because a graph may be captured of it.
    """

    def __init__(
        self,
        steerers: Mapping[str, Steerer],
        *,
        width: int,
        most_tokens: int,
        most_requests: int,
        device: torch.device,
        dtype: torch.dtype,
        always: bool,
    ) -> None:
        self.steerers, self.device, self.always = dict(steerers), device, always
        acting = [one for one in steerers.values() if isinstance(one, Constant | Learned)]
        self.table = Table(most_requests, width, device, dtype)
        self.last = torch.zeros(most_requests, device=device, dtype=torch.long)
        reads = {one.reads for one in acting if isinstance(one, Learned)}
        self.states = {block: torch.zeros(most_requests, width, device=device) for block in reads}
        self.rows = {one.writes: torch.zeros(most_tokens, device=device, dtype=torch.long) for one in acting}
        self.active = self._used = False
        self.requests: dict[str, Request] = {}
        self.counts = {"steps": 0, "reruns": 0, "read": 0, "steered_tokens": 0}

    @property
    def blocks(self) -> list[int]:
        return sorted({*self.states, *self.rows})

    def held(self) -> dict[str, int]:
        """Requests and rows of the table that are held now, and what was done so far."""
        return {"requests": len(self.requests), "rows": len(self.table), "evicted": self.table.evicted, **self.counts}

    def add(self, name: str, params: Any, prompt_length: int) -> None:
        """A request has its first step, or its first after a preemption."""
        ask = ask_of(getattr(params, "extra_args", None))
        if ask is None or name in self.requests:
            return
        steerer = self.steerers[ask.name]
        if isinstance(steerer, Constant | Learned):
            known = ask.strength * steerer.vector if isinstance(steerer, Constant) else None
            self.requests[name] = Request(steerer, ask.strength, prompt_length, known)

    def finish(self, name: str) -> None:
        """A request is over: it came to its end, or was aborted."""
        if self.requests.pop(name, None) is not None:
            self.table.release(name)

    def begin(self, names: Sequence[str], starts: Sequence[int], computed: Sequence[int]) -> Step:
        """Ready for a forward of these requests.

        Args:
            names: in the batch's order.
            starts: the first token of each in the batch, and the number of all.
            computed: how many tokens of each were computed before this step.
        """
        step = Step({*names}, int(starts[len(names)]))
        for row, name in enumerate(names):
            if name in self.requests:
                self._lay_out(step, name, row, int(starts[row]), int(starts[row + 1]), int(computed[row]))
        self._fill(step.rows, [reading.token for reading in step.reading])
        self.counts["steps"] += 1
        return step

    def _lay_out(self, step: Step, name: str, row: int, start: int, end: int, computed: int) -> None:
        request = self.requests[name]
        last_prompt = start + request.prompt_length - 1 - computed
        if request.vector is None:
            if last_prompt < start:
                raise RuntimeError(f"Request {name} went past its prompt without being read; it would go on unsteered.")
            if last_prompt < end:
                step.reading.append(Reading(name, request, row, last_prompt))
            return
        first = max(start, start + request.begins - computed)
        if first < end:
            block = request.steerer.writes
            rows = step.rows.setdefault(block, np.zeros(step.tokens, np.int64))
            rows[first:end] = self.table.place(name, request.vector, step.batch)
            self.counts["steered_tokens"] += end - first

    def predict(self, step: Step) -> bool:
        """The vectors of the requests that were read; True where their last prompt tokens must run again with them.

        Then all is ready for a forward of these tokens alone, in the order of `step.reading`.
        """
        count, rows = len(step.reading), dict[int, np.ndarray]()
        for steerer in dict.fromkeys(reading.request.steerer for reading in step.reading):
            places = [place for place, reading in enumerate(step.reading) if reading.request.steerer is steerer]
            assert isinstance(steerer, Learned)
            vectors = steerer.predict(self.states[steerer.reads][places])
            for vector, place in zip(vectors, places, strict=True):
                reading = step.reading[place]
                reading.request.vector = reading.request.strength * vector
                if steerer.scope == "response":
                    row = self.table.place(reading.name, reading.request.vector, step.batch)
                    rows.setdefault(steerer.writes, np.zeros(count, np.int64))[place] = row
        self.counts["read"] += count
        self.counts["reruns"] += bool(rows)
        self._fill(rows, [])
        return bool(rows)

    def end(self) -> None:
        """No forward is under way."""
        self._fill({}, [])

    def _fill(self, rows: Mapping[int, np.ndarray], tokens: Sequence[int]) -> None:
        if self._used:
            for buffer in self.rows.values():
                buffer.zero_()
            self.last.zero_()
        for block, values in rows.items():
            self.rows[block][: len(values)].copy_(torch.from_numpy(values))
        if tokens:
            self.last[: len(tokens)].copy_(torch.tensor(tokens))
        self.active = self._used = bool(rows or tokens)

"""The toolkit's own replies for requests that come one by one: those that wait together are answered as one batch."""

import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

import torch

from interv_vllm.asking import Ask

UNSTEERED = Ask("", 1.0)


@dataclass(frozen=True, eq=False)
class Waiting:
    """A prompt, what it asks for, and where its reply will be: (text, token ids, log-probabilities, finish reason)."""

    prompt: Any
    ask: Ask
    tokens: int
    reply: "Future[tuple[str, list[int], list[float], str]]" = field(default_factory=Future)


class Batches:
    """One thread has the model; requests of one steerer and length share a batch, each with its own strength."""

    def __init__(self, vlm: Any, steerers: dict[str, Any], most: int = 16) -> None:
        from methods import NoSteering

        self._vlm, self._most = vlm, most
        self._steerers = {**steerers, UNSTEERED.name: NoSteering(0, 0, "")}
        self._queue: SimpleQueue[Waiting | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def put(self, waiting: Waiting) -> None:
        self._queue.put(waiting)

    def close(self) -> None:
        """What waits is answered first."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (first := self._queue.get()) is not None:
            batch, ends = [first], False
            while len(batch) < self._most:
                try:
                    another = self._queue.get_nowait()
                except Empty:
                    break
                if another is None:
                    ends = True
                    break
                batch.append(another)
            for group in _groups(batch):
                self._answer(group)
            if ends:
                return

    def _answer(self, group: list[Waiting]) -> None:
        """One bad prompt fails the batch that it is in, so the others are asked again, each by itself."""
        from methods import steer

        try:
            replies = steer(
                self._vlm,
                [one.prompt for one in group],
                self._steerers[group[0].ask.name],
                strength=torch.tensor([one.ask.strength for one in group]),
                max_new_tokens=group[0].tokens,
                logits=True,
            )
        except Exception as error:  # templates and image processors raise whatever lies below them
            if len(group) == 1:
                group[0].reply.set_exception(error)
            for one in group if len(group) > 1 else ():
                self._answer([one])
            return
        assert replies.logits is not None
        for row, one in enumerate(group):
            ids = replies.token_ids[row]
            logprobs = replies.logits[row, : len(ids)].float().log_softmax(-1)
            said = logprobs.gather(-1, torch.tensor(ids, device=logprobs.device)[:, None])[:, 0].tolist()
            one.reply.set_result((replies[row], ids, said, replies.finish_reason[row]))


def _groups(batch: list[Waiting]) -> list[list[Waiting]]:
    groups: dict[tuple[str, int], list[Waiting]] = {}
    for one in batch:
        groups.setdefault((one.ask.name, one.tokens), []).append(one)
    return list(groups.values())

"""Prompts that run once for several methods, and the methods' replies from there: the one way in which all are run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import LogitsProcessorList, StoppingCriteriaList

from interv import VLM, Op, Prefill, Prompt, Replies, Site, stack
from interv.places.scope import PROMPT_SCOPES
from interv.prompts.encoding import Encoded
from methods.contrasts.reads import Read, States, captures, pooled, states_of
from methods.mixing import Following, Mixed, Pairing
from methods.steerer import Query, Steerer, Strength
from methods.streams import Stream, encoded_with


@dataclass(frozen=True, eq=False)
class Run:
    """One way of answering: a method, how strongly, and what it adds."""

    steerer: Steerer
    strength: Strength
    ops: Sequence[Op]


@dataclass(frozen=True, eq=False)
class Asked:
    """Prompts, what was read of them for some methods, and the prefill that all of these decode from.

    `streams` tells which rows of the prefill, behind the prompts' own, are a second stream's.
    """

    prompts: tuple[Prompt, ...] | Encoded
    prefill: Prefill
    states: States
    streams: Mapping[Stream, range]

    def query(self, steerer: Steerer, vectors: Float[Tensor, "batch d_model"] | None = None) -> Query:
        """What this method sees of the prompts."""
        seen = {read: self.states[read] for read in _looks(steerer)}
        return Query(self.states[Read(Site(steerer.reads))], vectors, seen)

    def run(self, steerer: Steerer, strength: Strength, vectors: Float[Tensor, "batch d_model"] | None = None) -> Run:
        return Run(steerer, strength, steerer.ops(self.query(steerer, vectors), strength))

    def answered(self, vlm: VLM, runs: Sequence[Run], **options: Any) -> Replies:
        """The replies of the runs, run by run and prompt by prompt, decoded as the rows of one batch.

        `options` are those of `vlm.generate`. What is read on the way, its logits for instance, is a run's own before
        any mixing. Raises ValueError for beams beside a second stream, whose rows they would part.
        """
        where, ops, pairings = self._laid_out(runs)
        if not pairings:
            return vlm.generate(where, ops, **options)
        if (options.get("num_beams") or 1) > 1:
            raise ValueError("Beams swap rows, and a second stream must stay beside its own; use num_beams=1.")
        rows = len(where)
        processors = [Mixed(pairings, rows), *(options.pop("logits_processor", None) or [])]
        criteria = [Following(pairings, rows), *(options.pop("stopping_criteria", None) or [])]
        replies = vlm.generate(
            where,
            ops,
            logits_processor=LogitsProcessorList(processors),
            stopping_criteria=StoppingCriteriaList(criteria),
            **options,
        )
        return replies.first(len(replies) * len(runs) * len(self.prompts) // rows)

    def logits(self, vlm: VLM, runs: Sequence[Run]) -> Float[Tensor, "batch vocabulary"]:
        """The logits of each reply's first token, mixed where the run mixes; run by run and prompt by prompt."""
        where, ops, pairings = self._laid_out(runs)
        logits = vlm.logits(where, ops)
        if pairings:
            logits = Mixed(pairings, len(where))(torch.empty(0), logits)
        return logits[: len(runs) * len(self.prompts)]

    def _laid_out(self, runs: Sequence[Run]) -> tuple[Prefill | list[Prompt], list[Op], list[Pairing]]:
        """What to decode from, the ops, and the rows that decode together; companions come last, unsteered.

        Ops that reach into the prompt must run it again, images and all, so they get the prompts and not their prefill.
        """
        if len(runs) == 1 and not self.streams:
            return self.prefill, list(runs[0].ops), []
        count, pairings = len(self.prompts), []
        order = [*range(count)] * len(runs)
        for number, run in enumerate(runs):
            stream = _stream(run.steerer)
            if stream is not None:
                own, companion = slice(number * count, (number + 1) * count), slice(len(order), len(order) + count)
                mix = partial(run.steerer.mixed, strength=run.strength)  # type: ignore[attr-defined]
                pairings.append(Pairing(own, companion, mix))
                order += self.streams[stream]
        ops: list[Op] = [*stack([*(run.ops for run in runs), *(() for _ in pairings)], count)]
        if not any(op.scope in PROMPT_SCOPES for op in ops):
            return self.prefill.select(order), ops, pairings
        if pairings:
            raise ValueError(
                "A second stream decodes from its own prefill, and ops that reach into the prompt run it again; give "
                "them the scope 'response' or 'generated'."
            )
        if isinstance(self.prompts, Encoded):
            raise ValueError(
                "Ops that reach into the prompt run it again for each of several runs, which needs prompts."
            )
        return [*self.prompts] * len(runs), ops, []


def ask(
    vlm: VLM,
    prompts: Sequence[Prompt] | Encoded,
    steerers: Sequence[Steerer],
    contexts: Sequence[Prompt] | None = None,
) -> Asked:
    """Run the prompts once, with the second streams that these methods have, and read what the methods look at.

    `contexts` are prompts to read from, where it is not from those that are answered; they cost a pass of their own.
    Raises ValueError for a method with a second stream where the prompts are encoded already: it asks them anew.
    """
    reads = list(dict.fromkeys(read for one in steerers for read in (Read(Site(one.reads)), *_looks(one))))
    streams = list(dict.fromkeys(stream for one in steerers if (stream := _stream(one)) is not None))
    count = len(prompts)
    rows = {stream: range(count * place, count * (place + 1)) for place, stream in enumerate(streams, start=1)}
    if isinstance(prompts, Encoded):
        if streams:
            raise ValueError(f"{streams[0]} is asked beside each prompt, and encoded prompts cannot be asked anew.")
        return _read(vlm, prompts, prompts, reads, rows)
    asked = encoded_with(vlm, prompts, streams) if streams else list(prompts)
    if contexts is not None and list(contexts) != list(prompts):
        return Asked(tuple(prompts), vlm.prefill(asked), _read_apart(vlm, contexts, reads), rows)
    return _read(vlm, tuple(prompts), asked, reads, rows)


def _read(
    vlm: VLM,
    prompts: tuple[Prompt, ...] | Encoded,
    asked: Sequence[Prompt] | Encoded,
    reads: Sequence[Read],
    streams: Mapping[Stream, range],
) -> Asked:
    taken = captures(reads)
    prefill = vlm.prefill(asked, list(dict.fromkeys(taken.values())))
    return Asked(prompts, prefill, states_of(prefill, reads, taken, len(prompts)), streams)


def _read_apart(vlm: VLM, prompts: Sequence[Prompt], reads: Sequence[Read]) -> States:
    encoded = vlm.encode(prompts)
    states: dict[Read, Tensor] = {}
    for last in (True, False):
        kind = [read for read in reads if (read.pool == "last_prompt") == last]
        if kind:
            sites = list(dict.fromkeys(read.site for read in kind))
            found = vlm.capture(encoded, sites, tokens="last_prompt" if last else "prompt")
            states |= {read: pooled(read.pool, found[read.site], encoded) for read in kind}
    return states


def _looks(steerer: Steerer) -> tuple[Read, ...]:
    return getattr(steerer, "looks", ())


def _stream(steerer: Steerer) -> Stream | None:
    return getattr(steerer, "stream", None)

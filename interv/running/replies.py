"""What a model answered: a list of texts that also knows its tokens."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interv.attention.recompute import HIDDEN
from interv.models.turns import turn_of
from interv.ops.attention_edits import AttentionEdit, Gate
from interv.ops.op import Capture
from interv.running.decoding import Decoding
from interv.running.plan import Plan

FinishReason = Literal["stop", "length"]


class Replies(list[str]):
    """The decoded replies, one a row, without special tokens.

    Attributes:
        token_ids: the new tokens of each row, its end-of-sequence token included, padding left out.
        finish_reason: "stop" where a row ended by itself, a stop string or a criterion, "length" where it was cut off.
        captured: what each `Capture` among the ops read, as its `tokens` says.
        gates: of each op with a threshold, how often it was asked and acted.
        logits: [batch, steps, vocabulary], before any sampling; kept only on request.
    """

    def __init__(
        self,
        texts: Sequence[str],
        token_ids: Sequence[list[int]],
        finish_reason: Sequence[FinishReason],
        captured: dict[Capture, Tensor | list[Tensor]] | None = None,
        logits: Float[Tensor, "batch steps vocabulary"] | None = None,
        gates: dict[AttentionEdit, Gate] | None = None,
    ) -> None:
        super().__init__(texts)
        self.token_ids = list(token_ids)
        self.finish_reason = list(finish_reason)
        self.captured = captured or {}
        self.logits = logits
        self.gates = gates or {}

    def first(self, rows: int) -> "Replies":
        """The first rows alone, with all that is known of them."""
        return Replies(
            self[:rows],
            self.token_ids[:rows],
            self.finish_reason[:rows],
            {op: values[:rows] for op, values in self.captured.items()},
            None if self.logits is None else self.logits[:rows],
            {op: Gate(gate.judged[:rows], gate.fired[:rows]) for op, gate in self.gates.items()},
        )


def replies_of(output: Any, plan: Plan, decoding: Decoding, tokenizer: Any, prompt_length: int) -> Replies:
    """What Hugging Face's `generate` returned, behind prompts of `prompt_length` tokens."""
    new = output.sequences[:, prompt_length:]
    token_ids, reasons = trim(new, decoding.end_ids, decoding.lengths(output, prompt_length))
    with turn_of(tokenizer):
        texts = tokenizer.batch_decode(token_ids, skip_special_tokens=True)
    captured = {
        op: joined(op, plan.captured[index], token_ids, new.shape[1])
        for index, op in enumerate(plan.ops)
        if isinstance(op, Capture)
    }
    gates = {
        op: gate_of(plan.captured[index], token_ids, new.shape[1])
        for index, op in enumerate(plan.ops)
        if isinstance(op, AttentionEdit) and index in plan.captured
    }
    logits = torch.stack(output.logits, 1) if output.logits else None
    return Replies(texts, token_ids, reasons, captured, logits, gates)


def trim(
    tokens: Int[Tensor, "batch steps"], end_ids: Collection[int], ended: Mapping[int, int]
) -> tuple[list[list[int]], list[FinishReason]]:
    """Each row up to and including its first end-of-sequence token, and why it ended.

    `ended` has the lengths of rows that ended otherwise, at a stop string for instance; what stands behind is padding.
    """
    rows: list[list[int]] = []
    reasons: list[FinishReason] = []
    for number, row in enumerate(tokens.tolist()):
        kept = row[: ended.get(number)]
        stop = next((place + 1 for place, token in enumerate(kept) if token in end_ids), None)
        rows.append(kept[:stop])
        reasons.append("length" if stop is None and number not in ended else "stop")
    return rows, reasons


def joined(op: Capture, reads: list[Any], token_ids: list[list[int]], steps: int) -> Tensor | list[Tensor]:
    """What one capture read, over all steps. Rows that ended early went on as padding, which is cut."""
    if isinstance(reads[0], Tensor):
        return reads[0]
    rows = len(token_ids)
    parts = [[read[row * len(read) // rows] for read in reads] for row in range(rows)]
    idle = [steps - len(ids) if op.scope in ("generated", "response", "all") else 0 for ids in token_ids]
    whole = [torch.cat(_of_one_width(op, part)) for part in parts]
    return [tokens[: len(tokens) - cut] for tokens, cut in zip(whole, idle, strict=True)]


def gate_of(reads: list[Tensor], token_ids: list[list[int]], steps: int) -> Gate:
    """The counts of a reply's forwards, each [batch, 2], without those of rows that had ended."""
    rows = [read[row * len(read) // len(token_ids)] for read in reads for row in range(len(token_ids))]
    counts = torch.stack(rows).view(len(reads), len(token_ids), 2)
    used = [len(reads) - (steps - len(ids)) for ids in token_ids]
    judged, fired = torch.stack([counts[:end, row].sum(0) for row, end in enumerate(used)]).unbind(1)
    return Gate(judged, fired)


def _of_one_width(op: Capture, parts: list[Tensor]) -> list[Tensor]:
    """Scores and weights of a reply grow by a column a token: the later columns are hidden from the earlier tokens."""
    if op.site.hook not in HIDDEN:
        return parts
    width = max(part.shape[-1] for part in parts)
    return [torch.nn.functional.pad(part, (0, width - part.shape[-1]), value=HIDDEN[op.site.hook]) for part in parts]

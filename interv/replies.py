"""What a model answered: a list of texts that also knows its tokens."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import GenerationConfig

from interv.ops import Capture
from interv.plan import Plan

FinishReason = Literal["stop", "length"]


class Replies(list[str]):
    """The decoded replies, one a row, without special tokens.

    Attributes:
        token_ids: the new tokens of each row, its end-of-sequence token included, padding left out.
        finish_reason: "stop" where a row ended by itself, "length" where it reached max_new_tokens.
        captured: what each `Capture` among the ops read, as its `tokens` says.
        logits: [batch, steps, vocabulary], before any sampling; kept only on request.
    """

    def __init__(
        self,
        texts: Sequence[str],
        token_ids: Sequence[list[int]],
        finish_reason: Sequence[FinishReason],
        captured: dict[Capture, Tensor | list[Tensor]] | None = None,
        logits: Float[Tensor, "batch steps vocabulary"] | None = None,
    ) -> None:
        super().__init__(texts)
        self.token_ids = list(token_ids)
        self.finish_reason = list(finish_reason)
        self.captured = captured or {}
        self.logits = logits


def replies_of(
    output: Any, plan: Plan, tokenizer: Any, config: GenerationConfig, prompt_length: int, options: Mapping[str, Any]
) -> Replies:
    """What Hugging Face's `generate` returned with these options, behind prompts of `prompt_length` tokens."""
    end_ids = ids_of(options.get("eos_token_id", config.eos_token_id))
    # Only these end a row without an end token; elsewhere a padding token at the end is one that the model chose.
    padded = options.get("stop_strings") is not None or options.get("stopping_criteria") is not None
    token_ids, reasons = trim(output.sequences[:, prompt_length:], end_ids, config.pad_token_id if padded else None)
    texts = tokenizer.batch_decode(token_ids, skip_special_tokens=True)
    captured = {
        op: joined(op, plan.captured[index], token_ids, output.sequences.shape[1] - prompt_length)
        for index, op in enumerate(plan.ops)
        if isinstance(op, Capture)
    }
    return Replies(texts, token_ids, reasons, captured, torch.stack(output.logits, 1) if output.logits else None)


def trim(
    tokens: Int[Tensor, "batch steps"], end_ids: set[int], pad_id: int | None
) -> tuple[list[list[int]], list[FinishReason]]:
    """Each row up to and including its first end-of-sequence token, and why it ended.

    A row that a stop string ended is padded by `generate`; the padding is cut.
    """
    rows, reasons = [], []
    for row in tokens.tolist():
        stop = next((i + 1 for i, token in enumerate(row) if token in end_ids), None)
        kept = row[:stop]
        if stop is None:
            while kept and kept[-1] == pad_id:
                kept.pop()
        rows.append(kept)
        reasons.append("stop" if stop is not None or len(kept) < len(row) else "length")
    return rows, reasons  # type: ignore[return-value]


def ids_of(value: Any) -> set[int]:
    """A generation setting that may be absent, one id or a list of ids."""
    if value is None:
        return set()
    return {value} if isinstance(value, int) else set(value)


def joined(op: Capture, reads: list[Any], token_ids: list[list[int]], steps: int) -> Tensor | list[Tensor]:
    """What one capture read, over all steps. Rows that ended early went on as padding, which is cut."""
    if isinstance(reads[0], Tensor):
        return reads[0]
    rows = len(token_ids)
    parts = [[read[row * len(read) // rows] for read in reads] for row in range(rows)]
    idle = [steps - len(ids) if op.scope in ("generated", "response", "all") else 0 for ids in token_ids]
    whole = [torch.cat(part) for part in parts]
    return [tokens[: len(tokens) - cut] for tokens, cut in zip(whole, idle, strict=True)]

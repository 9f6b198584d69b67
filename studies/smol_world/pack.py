"""Several dialogues about one picture as one row of tokens: the picture once, and each dialogue for itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from studies.smol_world.dialogues import Dialogue

IGNORED = -100  # no target
_MARK = "[the question]"


@dataclass(frozen=True)
class Packed:
    """`segment` is 0 for the picture's part, which all see, n for the n-th dialogue, -1 for padding.

    `targets` are the next tokens of answers; `asks` marks the last token of each question.
    """

    ids: Int[Tensor, "rows tokens"]
    segment: Int[Tensor, "rows tokens"]
    positions: Int[Tensor, "rows tokens"]
    targets: Int[Tensor, "rows tokens"]
    asks: Bool[Tensor, "rows tokens"]

    def mask(self) -> Float[Tensor, "rows 1 tokens tokens"]:
        """Additive: a token sees what comes before it in the picture's part and in its own dialogue."""
        length = self.ids.shape[1]
        query, key = self.segment[:, :, None], self.segment[:, None, :]
        # Padding sees itself, since a row of the softmax must not be empty.
        seen = torch.ones(length, length, dtype=torch.bool).tril() & ((key == query) | (key == 0))
        return torch.where(seen, 0.0, torch.finfo(torch.float32).min)[:, None]


def pack(processor: Any, talks: Sequence[Sequence[Dialogue]], image_tokens: int) -> Packed:
    """One row a picture, in the tokens that the processor's chat template gives one question and its answer."""
    rows = [_row(processor, talk, image_tokens) for talk in talks]
    length = max(len(row["ids"]) for row in rows)
    fill = {"ids": processor.tokenizer.pad_token_id, "segment": -1, "positions": 0, "targets": IGNORED, "asks": 0}
    whole = {
        name: torch.tensor([row[name] + [value] * (length - len(row[name])) for row in rows])
        for name, value in fill.items()
    }
    return Packed(**whole | {"asks": whole["asks"].bool()})


def _row(processor: Any, talk: Sequence[Dialogue], image_tokens: int) -> dict[str, list[int]]:
    before, _, closing = _rendered(processor).partition(_MARK)
    prefix = _ids(processor, before.replace(processor.image_token, processor.image_token * image_tokens))
    count = len(prefix)
    row = {"ids": prefix, "segment": [0] * count, "positions": list(range(count))}
    row |= {"targets": [IGNORED] * count, "asks": [0] * count}
    for number, dialogue in enumerate(talk, start=1):
        question = _ids(processor, dialogue.question + closing)
        answer = _ids(processor, dialogue.answer + processor.tokenizer.eos_token)
        size = len(question) + len(answer)
        row["ids"] = row["ids"] + question + answer
        row["segment"] += [number] * size
        row["positions"] += range(count, count + size)
        row["targets"] += [IGNORED] * (len(question) - 1) + answer + [IGNORED]
        row["asks"] += [0] * (len(question) - 1) + [1] + [0] * len(answer)
    return row


def _rendered(processor: Any) -> str:
    """One turn about a picture in the chat template, with the mark for what is asked."""
    content = [{"type": "image"}, {"type": "text", "text": _MARK}]
    return processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)


def _ids(processor: Any, text: str) -> list[int]:
    return processor.tokenizer(text, add_special_tokens=False)["input_ids"]

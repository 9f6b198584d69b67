"""A text that ends a reply once the reply holds it."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import StoppingCriteria, StopStringCriteria

_SPELT = "abcdef"  # what transformers' criterion spells, to learn what each token adds to a text


def stops_at(tokenizer: Any, texts: str | Sequence[str]) -> StoppingCriteria:
    """transformers' own criterion, or `Says` where the vocabulary has whole words alone, which that one cannot read."""
    if _SPELT in tokenizer.decode(tokenizer(_SPELT, add_special_tokens=False)["input_ids"]):
        return StopStringCriteria(tokenizer=tokenizer, stop_strings=texts)
    return Says(tokenizer, texts)


class Says(StoppingCriteria):
    """Whether a row's last token made one of the texts whole. It reads the end of each row as text, at every step."""

    def __init__(self, tokenizer: Any, texts: str | Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._texts = [texts] if isinstance(texts, str) else [*texts]
        self._span = 1 + max(map(len, self._texts), default=0)  # a token is a letter at least

    def __call__(  # type: ignore[override]
        self, input_ids: Int[Tensor, "batch sequence"], scores: Tensor | None, **kwargs: Any
    ) -> Bool[Tensor, " batch"]:
        ended = [self._said(row) for row in input_ids[:, -self._span :].tolist()]
        return torch.tensor(ended, dtype=torch.bool, device=input_ids.device)

    def _said(self, row: list[int]) -> bool:
        before, now = self._tokenizer.decode(row[:-1]), self._tokenizer.decode(row)
        return any(now.count(text) > before.count(text) for text in self._texts)

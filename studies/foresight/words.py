"""Yes and no in the logits of a reply's first token."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from interv import VLM, Prompt
from studies.fit.controls import first_token


@dataclass(frozen=True, eq=False)
class Words:
    """The tokens with which the model begins to say yes and no.

    `spelt` are yes and no as the task's answers begin with them.
    """

    yes_id: int
    no_id: int
    spelt: tuple[str, str]
    tokenizer: Any

    @classmethod
    def of(cls, vlm: VLM, prompt: Prompt, spelt: tuple[str, str] = ("yes", "no")) -> "Words":
        """As they come behind this prompt. Raises ValueError where both begin with one token."""
        yes_id, no_id = (first_token(vlm, prompt, word) for word in spelt)
        if yes_id == no_id:
            raise ValueError(
                f"{spelt[0]!r} and {spelt[1]!r} begin with the same token for {vlm.name}, so its first token tells "
                "nothing; give words that differ there."
            )
        return cls(yes_id, no_id, spelt, vlm.processor.tokenizer)

    def margins(self, logits: Float[Tensor, "batch vocabulary"]) -> Float[Tensor, " batch"]:
        """logit(yes) - logit(no)."""
        yes, no = (logits[:, token].float().cpu() for token in (self.yes_id, self.no_id))
        return yes - no

    def said(self, logits: Float[Tensor, "batch vocabulary"]) -> list[str]:
        """ "yes" or "no" by the likeliest token of all, in any case; "" where that is neither word."""
        return [self._label(int(token)) for token in logits.argmax(dim=1)]

    def _label(self, token: int) -> str:
        if token in (self.yes_id, self.no_id):
            return "yes" if token == self.yes_id else "no"
        text = self.tokenizer.decode([token]).strip().lower()
        labels = zip(self.spelt, ("yes", "no"), strict=True)
        return next((label for word, label in labels if word.lower() == text), "")

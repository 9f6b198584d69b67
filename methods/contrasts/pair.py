"""One training example: the same input with a wanted and with an unwanted completion."""

from dataclasses import dataclass

from interv import Prompt


@dataclass(frozen=True)
class ContrastPair:
    """One training example.

    Args:
        prompt: what is asked at test time; the context is read at its last token.
        positive: the same input with the wanted completion; may carry another question and a forced answer.
        negative: the same input with the unwanted completion.
        behavior: which behaviour the example calls for.
        agnostic: a second (positive, negative) that asks the same question for every behaviour.
    """

    prompt: Prompt
    positive: Prompt
    negative: Prompt
    behavior: str = ""
    id: str = ""
    agnostic: tuple[Prompt, Prompt] | None = None

    def variants(self) -> tuple[Prompt, ...]:
        return (self.prompt, self.positive, self.negative, *(self.agnostic or ()))

"""What the engines are compared with, as `make_world.py` wrote it in the toolkit's environment."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file

PAIRS = ("l2s-3-3", "l2s-6-3", "l2s-7-4", "l2s-2-5")
STEERED = (
    ("l2s-3-3", 2.5),
    ("l2s-7-4", 1.0),
    ("mean", 2.5),
    ("none", 1.0),
    ("l2s-3-3-generated", 2.5),
    ("mean-generated", 2.5),
)
TOLERANCE = 1e-3  # of a log-probability, in float32


@dataclass(frozen=True, eq=False)
class Answer:
    """The toolkit's reply to one prompt, and its log-probabilities, [steps, vocabulary]."""

    token_ids: list[int]
    logprobs: torch.Tensor


@dataclass(frozen=True)
class World:
    """One model with its steerers, prompts and answers."""

    folder: Path

    @property
    def model(self) -> str:
        return str(self.folder / "model")

    @property
    def steerers(self) -> dict[str, str]:
        """Their folders by name."""
        return {path.name: str(path) for path in sorted((self.folder / "steerers").iterdir())}

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        return json.loads((self.folder / "prompts.json").read_text())

    @cached_property
    def inputs(self) -> list[dict[str, Any]]:
        """The prompts, as vLLM takes them."""
        return [
            {"prompt": row["prompt"], "multi_modal_data": {"image": Image.open(self.folder / row["image"])}}
            for row in self.rows
        ]

    @property
    def longest(self) -> int:
        """Of the prompts, in tokens, those of the image among them."""
        return max(row["tokens"] for row in self.rows)

    def answers(self, steerer: str = "none", strength: float = 1.0) -> list[Answer]:
        kept = load_file(self.folder / "answers" / f"{steerer}@{strength}.safetensors")
        lengths = (kept["token_ids"] >= 0).sum(1).tolist()
        return [
            Answer(ids[:length].tolist(), logprobs[:length])
            for ids, logprobs, length in zip(kept["token_ids"], kept["logprobs"], lengths, strict=True)
        ]


def difference(answers: Sequence[Answer], outputs: Sequence[Any]) -> tuple[int, float]:
    """How many replies have other tokens, and the largest difference of a log-probability that the engine gave.

    Steps behind the first other token are left out: they answer another question.
    """
    others, worst = 0, 0.0
    for answer, output in zip(answers, outputs, strict=True):
        reply = output.outputs[0]
        said = list(reply.token_ids)
        others += said != answer.token_ids
        assert len(reply.logprobs) == len(said)
        for step, own in enumerate(answer.logprobs[: len(said)]):
            if said[:step] == answer.token_ids[:step]:
                given = reply.logprobs[step]
                worst = max(worst, *(abs(own[token].item() - one.logprob) for token, one in given.items()))
    return others, worst

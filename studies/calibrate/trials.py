"""What a search asks of a model: replies in many settings, and how far the first token's distribution moves."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interv import VLM, Prompt
from methods import NoSteering
from methods.asking import ask
from studies.calibrate.search import Reply
from studies.fit.setting import Setting
from studies.measure import Row
from studies.run.answer import answer
from studies.run.results import Results, key, read_rows
from studies.run.work import Oracle, own_vectors
from studies.tasks.task import Example, Split, Task

SIDE_BY_SIDE = 8  # settings that share a pass, whose logits over the whole vocabulary are held at once


def unsteered(settings: Sequence[Setting]) -> Setting:
    """The setting that adds nothing, for the model of these settings."""
    first = settings[0].steerer
    return Setting(NoSteering(first.reads, first.writes, first.fingerprint), 0.0, settings[0].seed)


@dataclass(frozen=True, eq=False)
class Trials:
    """A model and a task that answer a search; every reply is a row of `results` and is made once."""

    vlm: VLM
    task: Task
    results: Results
    plain: Setting
    batch_size: int = 256
    oracle: Oracle | None = None
    context_of: Callable[[Prompt], Prompt] = lambda prompt: prompt
    _rows: dict[tuple[Any, ...], Row] = field(default_factory=dict)

    def reply(self, settings: Sequence[Setting | None], examples: Sequence[Example]) -> list[list[Row]]:
        asked = [self.plain if setting is None else setting for setting in settings]
        self.make(asked, examples)
        rows = [row for row in read_rows(self.results.folder) if row["split"] == "val"]
        judged = getattr(self.task, "judged", None)
        marked = rows if judged is None else judged(rows, self.results.folder / "verdicts.jsonl")
        self._rows.update({key(row): row for row in marked})
        return in_order(self._rows, asked, examples)

    def make(self, settings: Sequence[Setting], examples: Sequence[Example], split: Split = "val") -> None:
        """Write the rows of these examples in these settings that are not there yet."""
        answer(
            self.vlm,
            self.task,
            split,
            examples,
            settings,
            self.results,
            batch_size=self.batch_size,
            oracle=self.oracle,
            context_of=self.context_of,
        )

    def diverge(self, settings: Sequence[Setting], examples: Sequence[Example]) -> np.ndarray:
        size = max(1, self.batch_size // SIDE_BY_SIDE)
        chunks = [examples[start : start + size] for start in range(0, len(examples), size)]
        return np.concatenate([self._diverge(settings, chunk) for chunk in chunks], axis=1)

    def tokens(self, examples: Sequence[Example]) -> float:
        """Mean length of the unsteered replies to these examples, with the token that ends them."""
        rows = self.reply([None], examples)[0]
        tokenizer = self.vlm.processor.tokenizer
        return float(np.mean([len(tokenizer.encode(row["reply"], add_special_tokens=False)) + 1 for row in rows]))

    def _diverge(self, settings: Sequence[Setting], chunk: Sequence[Example]) -> Float[np.ndarray, "settings examples"]:
        prompts = [example.prompt for example in chunk]
        apart = [self.context_of(prompt) for prompt in prompts]
        asked = ask(self.vlm, prompts, [setting.steerer for setting in settings], apart)
        plain = _log_probabilities(self.vlm.logits(asked.prefill))[: len(chunk)]
        parts = []
        for start in range(0, len(settings), SIDE_BY_SIDE):
            runs = []
            for setting in settings[start : start + SIDE_BY_SIDE]:
                vectors = None if self.oracle is None else own_vectors(self.oracle, chunk, setting.steerer)
                runs.append(asked.run(setting.steerer, setting.strength, vectors))
            steered = _log_probabilities(asked.logits(self.vlm, runs))
            steered = steered.unflatten(0, (len(runs), len(chunk)))
            parts.append((steered.exp() * (steered - plain)).sum(dim=-1).clamp_min(0.0))
        return torch.cat(parts).cpu().numpy()


def _log_probabilities(logits: Tensor) -> Tensor:
    return logits.float().log_softmax(dim=-1)


def in_order(
    rows: dict[tuple[Any, ...], Row], settings: Sequence[Setting], examples: Sequence[Example], split: Split = "val"
) -> list[list[Row]]:
    """The rows of each setting on these examples, in their order."""
    return [
        [rows[key({"id": example.id, "split": split, **columns})] for example in examples]
        for columns in (setting.columns() for setting in settings)
    ]


def replayed(rows: Sequence[Row], plain: Setting) -> Reply:
    """A `Reply` that looks replies up among rows that are there, which costs nothing."""
    by_key = {key(row): row for row in rows}

    def reply(settings: Sequence[Setting | None], examples: Sequence[Example]) -> list[list[Row]]:
        return in_order(by_key, [plain if setting is None else setting for setting in settings], examples)

    return reply

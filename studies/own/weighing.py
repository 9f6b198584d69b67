"""What steering does where no right reply is known: which answer the model prefers, and how far it moves elsewhere.

An example of the file is weighed: its wanted and its unwanted answer are said by the model (teacher forcing), and the
one whose tokens are likelier on average is preferred. A neutral prompt is one that steering should leave alone: the
unsteered model's reply is said by the steered one, and the mean divergence of its tokens counts as what is lost.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import exp

import torch
from more_itertools import chunked, map_reduce

from interv import Prompt
from interv.progress import bars
from methods import NoSteering
from methods.asking import ask
from studies.calibrate.trials import Trials
from studies.fit.setting import Setting
from studies.measure import Metric, Row, ratio
from studies.own.forced import answer_ids, divergences, log_likelihoods
from studies.run.answer import row_of
from studies.run.results import key
from studies.tasks.task import Example, Split

NEUTRAL = "(neutral)"  # the subset of prompts that steering should leave alone
WANTED, UNWANTED = "wanted", "unwanted"
REPLY = 16  # tokens of the unsteered reply to a neutral prompt along which divergence is measured
CHUNK = 32  # prompts that run at once, at most
SIDE_BY_SIDE = 4  # settings that do, at most; both within the batch size


def _asked(row: Row) -> float:
    return float(row["subset"] != NEUTRAL)


def _neutral(row: Row) -> float:
    return float(row["subset"] == NEUTRAL)


preference = ratio("preference", lambda row: row["parsed"] == WANTED, _asked)
margin = ratio("margin", lambda row: row.get("margin") or 0.0, _asked)
divergence = ratio("divergence", lambda row: row.get("divergence") or 0.0, _neutral)
kept = ratio("valid", lambda row: _neutral(row) * row["valid"], _neutral)
WEIGHED: tuple[Metric, ...] = (preference, margin, divergence, kept)


@dataclass(frozen=True, eq=False)
class Weighed(Trials):
    """Trials whose rows weigh answers; `answers` has the wanted and the unwanted one of each example but neutral ones.

    A row's `parsed` is the preferred answer, its `margin` by how many nats a token. A neutral row's `divergence` is in
    nats, and what counts as its quality, `valid`, is exp(-divergence): 1 where nothing moved.
    """

    answers: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def make(self, settings: Sequence[Setting], examples: Sequence[Example], split: Split = "val") -> None:
        size = min(CHUNK, self.batch_size)
        beside = max(1, min(SIDE_BY_SIDE, self.batch_size // size))
        groups = map_reduce(settings, lambda setting: setting.steerer.rewrite(Prompt(None, "")))
        kinds = map_reduce(examples, lambda example: example.subset == NEUTRAL)
        work = [
            (part, side, neutral)
            for neutral, own in kinds.items()
            for part in chunked(own, size)
            for alike in groups.values()
            for side in chunked(alike, beside)  # the same side by side in a resumed run, to the last bit
            if self._open(side, part, split)
        ]
        with bars() as bar:
            shown = bar.add_task(f"{split}: answers weighed", total=sum(len(p) * len(s) for p, s, _ in work))
            for part, side, neutral in work:
                rows = (self._moved if neutral else self._preferred)(part, side, split)
                self.results.append(row for row in rows if key(row) not in self.results.done)
                bar.advance(shown, len(part) * len(side))

    def tokens(self, examples: Sequence[Example]) -> float:
        """Mean length of the two answers together, in tokens."""
        own = [example for example in examples if example.subset != NEUTRAL][:CHUNK]
        wanted, unwanted = self._ids(own)
        return sum(map(len, [*wanted, *unwanted])) / len(own)

    def _open(self, settings: Sequence[Setting], part: Sequence[Example], split: Split) -> bool:
        """Whether some setting lacks a row of these examples."""
        keys = (key({"id": one.id, "split": split, **setting.columns()}) for setting in settings for one in part)
        return any(one not in self.results.done for one in keys)

    def _ids(self, part: Sequence[Example]) -> tuple[list, list]:
        wanted, unwanted = zip(*(self.answers[example.id] for example in part), strict=True)
        first, second = answer_ids(self.vlm, [example.prompt for example in part], wanted, unwanted)
        return first, second

    def _preferred(self, part: Sequence[Example], settings: Sequence[Setting], split: Split) -> Iterator[Row]:
        prompts = [settings[0].steerer.rewrite(example.prompt) for example in part]
        asked = ask(self.vlm, prompts, [setting.steerer for setting in settings])
        runs = [asked.run(setting.steerer, setting.strength) for setting in settings]
        wanted, unwanted = (log_likelihoods(self.vlm, asked, runs, ids) for ids in self._ids(part))
        for setting, margins in zip(settings, (wanted - unwanted).tolist(), strict=True):
            for example, value in zip(part, margins, strict=True):
                row = row_of(self.task, split, example, setting.columns(), "")
                yield row | {
                    "target": WANTED,
                    "parsed": WANTED if value > 0 else UNWANTED,
                    "valid": 1.0,
                    "margin": value,
                }

    def _moved(self, part: Sequence[Example], settings: Sequence[Setting], split: Split) -> Iterator[Row]:
        steerers = [setting.steerer for setting in settings]
        prompts = [example.prompt for example in part]
        none = NoSteering(steerers[0].reads, steerers[0].writes, steerers[0].fingerprint)
        unsteered = ask(self.vlm, prompts, [none])
        replies = self.vlm.generate(unsteered.prefill, max_new_tokens=REPLY)
        said = [torch.tensor(ids[:REPLY]) for ids in replies.token_ids]
        asked = ask(self.vlm, [steerers[0].rewrite(prompt) for prompt in prompts], steerers)
        runs = [asked.run(setting.steerer, setting.strength) for setting in settings]
        plain = unsteered, unsteered.run(none, 0.0)
        found = divergences(self.vlm, plain, asked, runs, said)
        for setting, values in zip(settings, found.tolist(), strict=True):
            for example, reply, value in zip(part, replies, values, strict=True):
                row = row_of(self.task, split, example, setting.columns(), reply)
                yield row | {"parsed": "", "valid": exp(-value), "divergence": value}


def neutral_examples(prompts: Sequence[tuple[Prompt, str]], mark: str) -> list[Example]:
    """Prompts with the unit of each, as examples; `mark` tells those of one split from another's."""
    return [
        Example(f"neutral-{mark}-{number}", prompt, NEUTRAL, NEUTRAL, "", unit)
        for number, (prompt, unit) in enumerate(prompts)
    ]

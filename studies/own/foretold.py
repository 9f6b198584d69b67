"""What to expect of steering on one's own rows, told before anything is fitted, and set beside what came out.

The forecast is that of `studies/headroom.py`, from training rows and counted on validation rows. What it is made from
stands in the contrasts: the states of the last prompt token, and in the last block's the logits of the reply's first
token. Only where contrasts are not read from there do the prompts run once more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from studies.fit.controls import answer_words
from studies.foresight.forecast import Forecast, Share, forecast
from studies.foresight.readings import Readings
from studies.foresight.words import Words
from studies.measure import Record, some
from studies.report.foreseen import checked, expectations
from studies.run.bench import Bench
from studies.run.first_words import readings
from studies.run.inside import logit_lens
from studies.tasks.task import Split

HEARD = 0.5  # of the validation replies: so many must begin with yes or no


@dataclass(frozen=True)
class Foretold:
    """What is expected: `sentences`, and the numbers that they are made of.

    Where nothing can be said, one sentence tells why and there are no numbers.
    """

    sentences: tuple[str, ...]
    forecast: Forecast | None = None

    def card(self, results: Sequence[Record]) -> dict[str, Any]:
        """As plain values, beside the accuracy of each method in these results: {said, expected}.

        `expected` lists {method, expected, measured, off_by}, the latter two None for a method that was not measured.
        """
        if self.forecast is None:
            return {"said": list(self.sentences), "expected": []}
        measured = {
            record["method"]: Share(*(record[name] for name in ("value", "low", "high", "n", "units")))
            for record in results
            if (record["subset"], record["metric"]) == ("all", "accuracy")
        }
        there = {one["method"]: one for one in checked(self.forecast, measured)}
        expected = [
            there.get(name) or {"method": name, "expected": vars(share), "measured": None, "off_by": None}
            for name, share in expectations(self.forecast).items()
        ]
        return {"said": list(self.sentences), "expected": expected}


def foretold(bench: Bench) -> Foretold:
    """The forecast for the bench's rows, where their targets are yes and no."""
    train, validation = (bench.examples(split) for split in ("train", "val"))
    wanted = {example.target for example in train}
    if wanted != {"yes", "no"} or not {example.target for example in validation} <= wanted:
        named = sorted({example.target for example in (*train, *validation)})
        have = "have none" if named == [""] else f"have {some([target or '(none)' for target in named], 4)}"
        return _none(f"it needs targets of yes and no, both among the training rows, and these rows {have}")
    try:
        words = Words.of(bench.vlm, train[0].prompt, answer_words(bench.task))
    except ValueError as error:
        return _none(f"it hears the first token of a reply. {error}".removesuffix("."))
    first, second = (read_off(bench, words, split) for split in ("train", "val"))
    heard = sum(bool(word) for word in second.said)
    if heard < HEARD * len(second):
        return _none(
            f"it hears the first token of a reply, and {heard} of {len(second)} validation replies begin with yes or no"
        )
    told = forecast(first, second, layers=bench.grid.reads)
    return Foretold(tuple(told.sentences), told)


def read_off(bench: Bench, words: Words, split: Split) -> Readings:
    """The split's readings, from its contrasts where these hold the last block, else from a pass over its prompts."""
    vlm, last = bench.vlm, bench.vlm.n_layers - 1
    if last not in bench.grid.captured(vlm.n_layers):
        return readings(bench, words, split)
    bank = bench.contrasts(split)
    by_id = {example.id: example for example in bench.examples(split)}
    examples = [by_id[id_] for id_ in bank.id]
    logits = torch.cat([logit_lens(vlm, part) for part in bank.at(last, last).context.split(bench.account.batch_size)])
    return Readings(
        bank.context,
        words.margins(logits),
        torch.tensor([example.target == "yes" for example in examples]),
        tuple(words.said(logits)),
        bank.id,
        tuple(example.unit for example in examples),
        bank.layers,
    )


def _none(reason: str) -> Foretold:
    return Foretold((f"No forecast was made: {reason}.",))

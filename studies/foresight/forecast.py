"""What to expect of L2S, of a mean vector and of a threshold on yes/no questions, told before anything is fitted.

The rule, and where it comes from. A vector for each input can turn an answer only by what the last prompt token knows,
and a linear probe says how much that is. Where a threshold on logit(yes) - logit(no) does as well as the probe, the
logits already say all that the state knows, only shifted: L2S then gives what a shift gives. Where the probe is ahead,
L2S takes most of the difference. So L2S is expected at the threshold where the paired 95% interval of probe minus
threshold holds 0 or lies below it, and else at the threshold and `TAKEN` of the difference. Never below the unsteered
model, since validation may choose hardly any strength; and at the oracle where its interval ends below that, for then
these blocks turn no answer.

The two cases are from four models of 139 million parameters (the probe by blocks 12, 20, 29):

    unsteered   threshold   probe        constant push   L2S
         74.0        74.3   72, 77, 74            74.7   74.7
         72.8        82.2   84, 83, 85            83.4   82.2
         89.6        95.8   98, 98, 96            94.6   95.4
         50.0        78.8   93, 93, 89            76.2   92.9   took all of the difference

Expected at the probe, as these say, L2S was then overrated on the first embedded models, tiny-llava (threshold 86.5,
probe 97.6, L2S 95.0: 76% of the difference) and tiny-qwen2vl (82.8, 96.7, 91.6: 63%). `TAKEN` is the mean of the three.

The mean vector: contrasts of yes- and of no-questions point in opposite directions, so with as many of either they
cancel, and nothing is expected to change; where one answer prevails by more than a tenth, it is a constant push.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from interv import VLM
from studies.foresight.readings import Readings, read
from studies.foresight.ways import Ways, right, ways_of
from studies.foresight.words import Words
from studies.measure.fidelity import averaged
from studies.tasks.task import Example

TAKEN = 0.8  # of the difference between threshold and probe, by L2S
BALANCED = 0.1  # of the training questions: by so much may one answer prevail before the contrasts no longer cancel


@dataclass(frozen=True)
class Share:
    """An accuracy, or a difference of two, with its 95% bootstrap interval over images; n prompts of `units` images."""

    value: float
    low: float
    high: float
    n: int
    units: int

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class Forecast:
    """What each way reaches on the judged prompts, and what is expected of steering there.

    Attributes:
        unsteered, threshold, probe: measured, by the first token; the probe is of block `layer`.
        gap: probe minus threshold, paired.
        in_image: the threshold after each image's own mean is taken away, None where no image has several questions.
        oracle: what P2S reached on some of the prompts; None where it was not tried, and all are taken to be in reach.
        l2s, mean, push: what is expected of L2S, of a mean vector, and of a threshold or a constant push.
        helps: whether L2S is expected to do more than a shift of the answer's bias.
        reason: why, in a sentence.
    """

    unsteered: Share
    threshold: Share
    in_image: Share | None
    probe: Share
    layer: int
    gap: Share
    oracle: Share | None
    l2s: Share
    mean: Share
    push: Share
    helps: bool
    reason: str

    @property
    def sentences(self) -> list[str]:
        """The answer to "will steering help here?", then what it stands on."""
        where = f"{self.l2s.value:.3f} (95% interval {self.l2s.low:.3f} to {self.l2s.high:.3f}, n = {self.l2s.n:,})"
        gain = self.l2s.value - self.unsteered.value
        push = self.push.value - self.unsteered.value
        if self.helps:
            head = f"Steering by input should help: L2S is expected at {where}, {_signed(gain)} to the unsteered model"
            head += f" and {_signed(self.l2s.value - self.push.value)} to a threshold or a constant push"
        elif self.push.low > self.unsteered.value:
            head = f"A shift of the answer's bias should help and L2S no more than that: it is expected at {where}"
            head += f", {_signed(gain)} to the unsteered model, as a threshold is ({_signed(push)})"
        else:
            head = f"Steering should hardly help: L2S is expected at {where}, {_signed(gain)} to the unsteered model"
        return [
            f"{head}.",
            self.reason,
            f"A threshold or a constant push is expected at {self.push}, a mean vector at {self.mean}.",
        ]

    def card(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)


def forecast(
    train: Readings,
    validation: Readings,
    judged: Readings | None = None,
    *,
    layers: Sequence[int] | None = None,
    oracle: Share | None = None,
) -> Forecast:
    """The forecast for the judged prompts, whose answers are looked at to count and for nothing else.

    Without judged prompts the validation prompts are counted, which also chose the probe: that flatters it a little.
    `layers` are the blocks that L2S may read, all that were read by default. Raises ValueError for a block that was not
    read, and for training prompts of one answer alone.
    """
    judged = validation if judged is None else judged
    share = float(train.yes.float().mean())
    if share in (0.0, 1.0):
        raise ValueError(f"All {len(train)} training questions have one answer; a forecast needs some of either.")
    ways = ways_of(train, validation, judged, train.layers if layers is None else layers)
    return expected(ways, judged, share, oracle)


def expected(ways: Ways, judged: Readings, yes_share: float, oracle: Share | None = None) -> Forecast:
    """The rule, applied to what each way answered; `yes_share` is that of the training questions."""
    rights = {name: right(getattr(ways, name), judged) for name in ("unsteered", "threshold", "probe")}
    share = {name: share_of(values, judged) for name, values in rights.items()}
    in_image = None if ways.in_image is None else share_of(right(ways.in_image, judged), judged)
    gap = share_of(rights["probe"] - rights["threshold"], judged)
    helps = gap.low > 0
    taken = rights["threshold"] + TAKEN * (rights["probe"] - rights["threshold"])
    l2s = share_of(taken, judged) if helps else share["threshold"]
    l2s = max(l2s, share["unsteered"], key=lambda one: one.value)
    layer = ways.fitted.layer
    found = (
        f"a linear probe of the last prompt token at block {layer} reaches {share['probe']}, a threshold on logit(yes) "
        f"- logit(no) {share['threshold']}; the difference is {_signed(gap.value)}, paired 95% interval "
        f"{_signed(gap.low)} to {_signed(gap.high)}"
    )
    reason = (
        f"The state knows more than the logits say, and L2S takes most of what a shift leaves: {found}."
        if helps
        else f"The logits already say what the state knows, so that a shift is all there is: {found}."
    )
    if oracle is not None and oracle.high < l2s.value:
        l2s = oracle
        reason += f" But the oracle itself, added at these blocks, reaches {oracle} only."
    balanced = abs(2 * yes_share - 1) <= BALANCED
    return Forecast(
        unsteered=share["unsteered"],
        threshold=share["threshold"],
        in_image=in_image,
        probe=share["probe"],
        layer=layer,
        gap=gap,
        oracle=oracle,
        l2s=l2s,
        mean=share["unsteered" if balanced else "threshold"],
        push=share["threshold"],
        helps=helps and l2s.value > share["threshold"].value,
        reason=reason,
    )


def share_of(values: np.ndarray, readings: Readings) -> Share:
    """The mean of a number a prompt, with its interval over images."""
    found = averaged(values, readings.units)
    return Share(*(found[name] for name in ("value", "low", "high", "n", "units")))


def foresee(
    vlm: VLM,
    train: Sequence[Example],
    validation: Sequence[Example],
    judged: Sequence[Example] | None = None,
    *,
    spelt: tuple[str, str] = ("yes", "no"),
    layers: Sequence[int] | None = None,
    batch_size: int = 32,
) -> Forecast:
    """As `forecast`, from one pass of the model over these questions.

    `spelt` are yes and no as the model is to begin with them. Raises as `read` and `forecast` do.
    """
    words = Words.of(vlm, train[0].prompt, spelt)
    first, second = (read(vlm, part, words, layers=layers, batch_size=batch_size) for part in (train, validation))
    third = None if judged is None else read(vlm, judged, words, layers=layers, batch_size=batch_size)
    return forecast(first, second, third)


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "\u2212")

"""What each way of answering says that needs no steering: the model, a threshold, one within an image, a probe."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from studies.foresight.probe import Probe, chosen_probe
from studies.foresight.readings import Readings
from studies.measure.bootstrap import interval, resampled_sums
from studies.measure.metric import Record
from studies.measure.threshold import best_threshold


@dataclass(frozen=True, eq=False)
class Ways:
    """Which of the judged prompts each way answers rightly, [prompts], and what it answers.

    Attributes:
        unsteered: the model's likeliest first token.
        threshold: yes where logit(yes) - logit(no) exceeds the value that is best on the training prompts.
        in_image: the same after the mean over the questions about the prompt's image is taken away; None where no image
            has several. It needs all the questions at once, so it is a measure and no way to answer one.
        probe: the linear probe, its block and penalty chosen on validation: `fitted`.
        cut, cut_in_image: the two thresholds.
    """

    unsteered: tuple[str, ...]
    threshold: tuple[str, ...]
    in_image: tuple[str, ...] | None
    probe: tuple[str, ...]
    fitted: Probe
    cut: float
    cut_in_image: float | None


def ways_of(train: Readings, validation: Readings, judged: Readings, layers: Sequence[int]) -> Ways:
    """Everything is fitted on `train` and chosen on `validation`; `judged` gives its prompts, not their answers."""
    cut = best_threshold(train.margins, train.yes)
    probe = chosen_probe(train, validation, layers)
    level = float(train.margins.mean())
    in_image, within = None, None
    if shared(judged).any() and shared(train).any():
        within = best_threshold(centred(train, level), train.yes)
        in_image = as_words(centred(judged, level) > within)
    return Ways(
        judged.said, as_words(judged.margins > cut), in_image, as_words(probe.says_yes(judged)), probe, cut, within
    )


def as_words(yes: Bool[Tensor, " prompts"]) -> tuple[str, ...]:
    return tuple("yes" if one else "no" for one in yes.tolist())


def right(said: Sequence[str], readings: Readings) -> Float[np.ndarray, " prompts"]:
    """1 where the answer is the wanted one."""
    wanted = as_words(readings.yes)
    return np.array([one == other for one, other in zip(said, wanted, strict=True)], dtype=np.float64)


def shared(readings: Readings) -> Bool[Tensor, " prompts"]:
    """Which prompts have company: another question about the same image."""
    count = Counter(readings.units)
    return torch.tensor([count[unit] > 1 for unit in readings.units])


def centred(readings: Readings, level: float) -> Float[Tensor, " prompts"]:
    """Margins less their mean over the image's questions; less `level` where an image has one question alone."""
    names, unit = np.unique(np.array(readings.units), return_inverse=True)
    place = torch.from_numpy(unit)
    count = torch.zeros(len(names)).index_add(0, place, torch.ones(len(readings)))
    mean = torch.zeros(len(names)).index_add(0, place, readings.margins) / count
    return readings.margins - torch.where(count[place] > 1, mean[place], torch.full_like(readings.margins, level))


def ordered_in_image(readings: Readings, resamples: int = 2000) -> Record | None:
    """Of all pairs of a yes- and a no-question about one image, the share with the higher margin on the yes.

    Equal margins count half. {value, low, high, n, units}, n pairs; None where no image has both.
    """
    columns, units = [], []
    for unit in dict.fromkeys(readings.units):
        own = torch.tensor([other == unit for other in readings.units])
        yes, no = readings.margins[own & readings.yes], readings.margins[own & ~readings.yes]
        if len(yes) and len(no):
            gaps = yes[:, None] - no[None]
            columns.append([float((gaps > 0).sum() + (gaps == 0).sum() / 2), float(gaps.numel())])
            units.append(unit)
    if not columns:
        return None
    sums = resampled_sums(np.array(columns), np.array(units), resamples, 0)
    low, high = interval(sums[:, 0] / sums[:, 1])
    above, pairs = np.array(columns).sum(axis=0)
    return {"value": float(above / pairs), "low": low, "high": high, "n": int(pairs), "units": len(units)}

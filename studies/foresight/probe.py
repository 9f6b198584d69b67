"""A linear probe of the last prompt token: does the state know the answer?"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from studies.foresight.readings import Readings

PENALTIES = (1.0, 10.0, 100.0, 1e3, 1e4)  # of ridge on standardised states, so from hardly any to nearly the mean


@dataclass(frozen=True, eq=False)
class Probe:
    """Says yes where `states @ weights + offset` is above 0, for states leaving block `layer`."""

    layer: int
    penalty: float
    weights: Float[Tensor, " d_model"]
    offset: float

    def says_yes(self, readings: Readings) -> Bool[Tensor, " prompts"]:
        return self.scores(readings) > 0

    def scores(self, readings: Readings) -> Float[Tensor, " prompts"]:
        return readings.at(self.layer).double() @ self.weights + self.offset

    def accuracy(self, readings: Readings) -> float:
        return float((self.says_yes(readings) == readings.yes).double().mean())


def ridge_probes(train: Readings, layer: int, penalties: Sequence[float] = PENALTIES) -> list[Probe]:
    """A ridge regression of +1 and -1 on the standardised states, in closed form, for each penalty."""
    states, wanted = train.at(layer).double(), train.yes.double() * 2 - 1
    mean, size = states.mean(dim=0), states.std(dim=0, correction=0).clamp_min(1e-9)
    left, strengths, right = torch.linalg.svd((states - mean) / size, full_matrices=False)
    level = wanted.mean()
    along = left.T @ (wanted - level)
    probes = []
    for penalty in penalties:
        weights = right.T @ (strengths / (strengths.square() + penalty) * along) / size
        probes.append(Probe(layer, penalty, weights, float(level - mean @ weights)))
    return probes


def chosen_probe(train: Readings, validation: Readings, layers: Sequence[int]) -> Probe:
    """Fitted on `train`; block and penalty are the best on `validation`, of equals the stronger penalty."""
    probes = [probe for layer in layers for probe in ridge_probes(train, layer)]
    return max(probes, key=lambda probe: (probe.accuracy(validation), probe.penalty))

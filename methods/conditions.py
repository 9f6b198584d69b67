"""When to act: a prompt's state beside a direction, against a threshold that was chosen where the answer is known."""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import cosine_similarity

from methods.contrasts.reads import Pool

Similarity = Literal["cosine", "published"]
Fires = Literal["above", "below"]


class Condition(NamedTuple):
    """Whether a prompt is of a category: its similarity to a direction lies above, or below, the threshold.

    Attributes:
        name: of the category. Conditions of one name, at several blocks, are met where one of them is.
        block: whose state is read, counted from 0.
        pool: which tokens of the prompt make the state.
        similarity: "cosine" with its sign; "published" is cos(m, tanh(P m)) with P the projection on the direction,
            which forgets the sign and bends with the state's scale.
    """

    name: str
    block: int
    pool: Pool
    similarity: Similarity
    fires: Fires
    threshold: float

    def met(
        self, states: Float[Tensor, "batch d_model"], direction: Float[Tensor, " d_model"]
    ) -> Bool[Tensor, " batch"]:
        """Row by row, which prompts are of the category."""
        value = similarity(states, direction, self.similarity)
        return value > self.threshold if self.fires == "above" else value < self.threshold


def similarity(
    states: Float[Tensor, "batch d_model"], direction: Float[Tensor, " d_model"], kind: Similarity
) -> Float[Tensor, " batch"]:
    """How alike each state and the direction are, in [-1, 1].

    Source: CAST, arXiv:2409.05907, and its published code for "published".
    """
    states = states.float()
    unit = direction.to(states) / direction.float().norm().to(states.device)
    if kind == "published":
        return cosine_similarity(states, torch.tanh((states @ unit)[:, None] * unit), dim=1)
    return cosine_similarity(states, unit[None], dim=1)


def pairwise_direction(
    positive: Float[Tensor, "pairs d_model"], negative: Float[Tensor, "pairs d_model"]
) -> Float[Tensor, " d_model"]:
    """The unit direction along which pairs lie apart, towards the side where most positives are.

    The first principal component of all states, each pair's midpoint taken off: the top right singular vector of the
    differences, which are not centred, for centring would take their mean away. Source: CAST's published code,
    "pca_pairwise".
    """
    differences = (positive - negative).double()
    unit = torch.linalg.svd(differences, full_matrices=False).Vh[0]
    forward = (differences @ unit > 0).double().mean()
    return (unit if forward >= 0.5 else -unit).float()


def against(inside: Float[Tensor, "own d_model"], outside: Float[Tensor, "other d_model"]) -> Float[Tensor, " d_model"]:
    """The direction from the prompts of no category to those of one; the shorter list is repeated."""
    rows = torch.arange(max(len(inside), len(outside)))
    return pairwise_direction(inside[rows % len(inside)], outside[rows % len(outside)])


def best_point(values: Float[Tensor, " prompts"], wanted: Bool[Tensor, " prompts"]) -> tuple[Fires, float, float]:
    """The side and threshold of the best F1, and that F1; the first of equals, "above" before "below".

    Thresholds lie midway between neighbouring values, and outside all of them.
    """
    seen = values.double().unique()
    edges = torch.cat([seen[:1] - 1, (seen[1:] + seen[:-1]) / 2, seen[-1:] + 1])
    above = values.double()[None] > edges[:, None]  # [edges, prompts]
    sides: tuple[tuple[Fires, Tensor], ...] = (("above", above), ("below", ~above))
    scores = torch.stack([_f1(met, wanted) for _, met in sides])
    place = int(scores.flatten().argmax())
    side, edge = divmod(place, len(edges))
    return sides[side][0], float(edges[edge]), float(scores[side, edge])


def _f1(met: Bool[Tensor, "edges prompts"], wanted: Bool[Tensor, " prompts"]) -> Float[Tensor, " edges"]:
    hits = (met & wanted).sum(dim=1).double()
    return 2 * hits / (met.sum(dim=1) + wanted.sum()).clamp_min(1)

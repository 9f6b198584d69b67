"""A random direction of the right length: the control for what any push would do."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from interv import Add
from methods.checks import check_contrasts
from methods.contrasts.sharded import AnyContrasts
from methods.steerer import Fitted, Query, Strength


@dataclass(frozen=True, eq=False)
class NormRnd(Fitted):
    """Adds a direction drawn uniformly from the sphere. Source: arXiv:2508.12815, Sec. 4 (Norm-Rnd).

    Its length is the mean norm of the training contrast vectors. The paper scales it to each input's own vector,
    which needs the answer: `per_input` does that and takes the oracle's vectors from the query.
    """

    direction: Float[Tensor, " d_model"]
    per_input: bool = False

    @classmethod
    def fit(cls, train: AnyContrasts, *, seed: int = 0, per_input: bool = False) -> "NormRnd":
        """Raises ValueError where a row is not of finite numbers."""
        check_contrasts(train)
        generator = torch.Generator().manual_seed(seed)
        # A normal draw points anywhere with equal probability.
        direction = torch.randn(train.width, generator=generator)
        length = 1.0 if per_input else train.mean_norm
        return cls(
            train.reads,
            train.writes,
            train.fingerprint,
            direction=direction / direction.norm() * length,
            per_input=per_input,
        )

    def ops(self, query: Query, strength: Strength = 1.0) -> tuple[Add, ...]:
        if not self.per_input:
            return self.add(self.direction, strength)
        if query.vectors is None:
            raise ValueError("NormRnd(per_input=True) needs Query.vectors; fit with per_input=False to do without.")
        return self.add(query.vectors.norm(dim=1, keepdim=True) * self.direction.to(query.vectors), strength)

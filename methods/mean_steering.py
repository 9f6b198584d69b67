"""One vector for all inputs: the mean contrast."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from interv import Add
from methods.checks import check_contrasts
from methods.contrasts.sharded import AnyContrasts
from methods.steerer import Fitted, Query, Strength


@dataclass(frozen=True, eq=False)
class MeanSteering(Fitted):
    """Adds the mean of the training contrast vectors (Mean-S; contrastive activation addition, arXiv:2312.06681)."""

    vector: Float[Tensor, " d_model"]

    @classmethod
    def fit(cls, train: AnyContrasts) -> "MeanSteering":
        """Raises ValueError where a row is not of finite numbers."""
        check_contrasts(train)
        return cls(train.reads, train.writes, train.fingerprint, vector=train.mean_vector)

    def ops(self, query: Query, strength: Strength = 1.0) -> tuple[Add, ...]:
        return self.add(self.vector, strength)

"""One vector for all inputs, from one question for all behaviours."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from interv import Add
from methods.checks import DoesNotApply, check_contrasts
from methods.contrasts.sharded import AnyContrasts
from methods.steerer import Fitted, Query, Strength


@dataclass(frozen=True, eq=False)
class MeanSteeringBA(Fitted):
    """Adds the mean contrast of ONE prompt pair used for every example. Source: arXiv:2508.12815, Sec. 4 (Mean-S(BA)).

    Behaviour-agnostic: the pair does not change with what the example calls for.
    """

    vector: Float[Tensor, " d_model"]

    @classmethod
    def fit(cls, train: AnyContrasts) -> "MeanSteeringBA":
        """Raises DoesNotApply where the contrasts have no agnostic pair, ValueError for a row of no finite numbers."""
        check_contrasts(train)
        vector = train.mean_agnostic
        if vector is None:
            raise DoesNotApply(
                "MeanSteeringBA needs contrasts of one prompt pair used for every example, and these have none; "
                "give ContrastPair(agnostic=(positive, negative)), or use MeanSteering."
            )
        return cls(train.reads, train.writes, train.fingerprint, vector=vector)

    def ops(self, query: Query, strength: Strength = 1.0) -> tuple[Add, ...]:
        return self.add(self.vector, strength)

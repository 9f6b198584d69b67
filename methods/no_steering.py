"""The model as it is."""

from dataclasses import dataclass

from interv import Add
from methods.contrasts.sharded import AnyContrasts
from methods.steerer import Fitted, Query, Strength


@dataclass(frozen=True, eq=False)
class NoSteering(Fitted):
    """Adds nothing."""

    @classmethod
    def fit(cls, train: AnyContrasts) -> "NoSteering":
        return cls(train.reads, train.writes, train.fingerprint)

    def ops(self, query: Query, strength: Strength = 1.0) -> tuple[Add, ...]:
        return ()

"""The model as it is."""

from dataclasses import dataclass

from interv import Add
from methods.contrasts import Contrasts
from methods.steerer import Fitted, Query, Strength


@dataclass(frozen=True, eq=False)
class NoSteering(Fitted):
    """Adds nothing."""

    @classmethod
    def fit(cls, train: Contrasts) -> "NoSteering":
        return cls(train.reads, train.writes, train.fingerprint)

    def ops(self, query: Query, strength: Strength = 1.0) -> tuple[Add, ...]:
        return ()

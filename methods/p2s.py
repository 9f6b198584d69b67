"""The oracle: each input's own contrast vector."""

from dataclasses import dataclass

from interv import Add
from methods.contrasts.sharded import AnyContrasts
from methods.steerer import Fitted, Query, Strength


@dataclass(frozen=True, eq=False)
class P2S(Fitted):
    """Adds z = h(X+) - h(X-) of the input itself, which needs the wanted answer.

    Source: arXiv:2508.12815, Sec. 3 (P2S).

    There is nothing to fit. The vectors come with the query: `capture_contrasts(vlm, pairs).at(reads, writes).vectors`
    of the very inputs to be steered.
    """

    @classmethod
    def fit(cls, train: AnyContrasts) -> "P2S":
        return cls(train.reads, train.writes, train.fingerprint)

    def ops(self, query: Query, strength: Strength = 1.0) -> tuple[Add, ...]:
        if query.vectors is None:
            raise ValueError(
                "P2S is an oracle and needs each input's own vector in Query.vectors; "
                "capture contrasts of the inputs and pass vectors=contrasts.vectors."
            )
        return self.add(query.vectors, strength)

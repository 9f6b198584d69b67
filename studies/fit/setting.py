"""One way of answering: what a row of results is made with."""

from dataclasses import dataclass

from methods.steerer import Fitted
from studies.fit.method_traits import adds, at_one_block, reads_context
from studies.measure import Row


@dataclass(frozen=True)
class Setting:
    """One way of answering: a fitted method, how strongly it steers, and the seed that it was fitted with."""

    steerer: Fitted
    strength: float = 1.0
    seed: int = 0

    def columns(self) -> Row:
        """The setting's part of a row; what does not matter to the method is null."""
        method = type(self.steerer)
        return {
            "method": method.__name__,
            "variant": None,
            "strength": self.strength if adds(method) else None,
            "reads": self.steerer.reads if reads_context(method) else None,
            "writes": self.steerer.writes if at_one_block(method) else None,
            "seed": self.seed,
        }

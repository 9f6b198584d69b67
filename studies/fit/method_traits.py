"""What a study must know of a method: what it looks at and what its settings are.

A method of your own takes part in a study once it is in `fitting.STEERING`. It says what it needs by class variables of
these names (`reads_context: ClassVar[bool] = False`); one that says nothing is taken to read a context, to add at a
strength, and to be no oracle.
"""

from inspect import signature

from methods import P2S, MeanSteering, MeanSteeringBA, NormRnd, NoSteering, PromptSteering
from methods.steerer import Fitted
from studies.fit.controls import ConstantDirection

_ADD_NOTHING = (NoSteering, PromptSteering)
_READ_NOTHING = (*_ADD_NOTHING, NormRnd, MeanSteering, MeanSteeringBA, P2S, ConstantDirection)


def adds(method: type[Fitted]) -> bool:
    """Whether it adds anything, so that a strength and a steered block matter."""
    return getattr(method, "adds", not issubclass(method, _ADD_NOTHING))


def reads_context(method: type[Fitted]) -> bool:
    """Whether what it adds depends on the context, so that the block that is read matters."""
    return getattr(method, "reads_context", not issubclass(method, _READ_NOTHING))


def needs_vectors(method: type[Fitted]) -> bool:
    """Whether it is an oracle, which looks at each input's own contrast vector."""
    return getattr(method, "needs_vectors", issubclass(method, P2S))


def seeded(method: type[Fitted]) -> bool:
    """Whether its fit draws random numbers."""
    return "seed" in signature(method.fit).parameters

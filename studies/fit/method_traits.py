"""What a study must know of a method: what it looks at and what its settings are.

A method of your own takes part in a study once it is in `fitting.STEERING`. It says what it needs by class variables of
these names (`reads_context: ClassVar[bool] = False`); one that says nothing is taken to read a context, to add at a
strength, and to be no oracle.
"""

from inspect import signature

from methods import (
    ADHH,
    ITI,
    P2S,
    PAI,
    VCD,
    L2SGated,
    L2SLayers,
    MeanSteering,
    MeanSteeringBA,
    NormRnd,
    NoSteering,
    PAILogits,
    PromptSteering,
)
from methods.steerer import Fitted
from studies.fit.controls import ConstantDirection

_ADD_NOTHING = (NoSteering, PromptSteering)
_IN_ATTENTION = (ITI, PAI, ADHH)
_AT_NO_ONE_BLOCK = (*_IN_ATTENTION, PAILogits, VCD)
_READ_NOTHING = (*_ADD_NOTHING, *_AT_NO_ONE_BLOCK, NormRnd, MeanSteering, MeanSteeringBA, P2S, ConstantDirection)


def adds(method: type[Fitted]) -> bool:
    """Whether it changes anything in the model, so that a strength matters."""
    return getattr(method, "adds", not issubclass(method, _ADD_NOTHING))


def at_one_block(method: type[Fitted]) -> bool:
    """Whether what it changes lies at one block, so that it matters which one that is."""
    return adds(method) and getattr(method, "at_one_block", not issubclass(method, _AT_NO_ONE_BLOCK))


def in_replies_alone(method: type[Fitted]) -> bool:
    """Whether it acts from the last prompt token on and in no scope that reaches further back."""
    return getattr(method, "in_replies_alone", issubclass(method, _IN_ATTENTION))


def reads_context(method: type[Fitted]) -> bool:
    """Whether what it adds depends on the context, so that the block that is read matters."""
    return getattr(method, "reads_context", not issubclass(method, _READ_NOTHING))


def needs_vectors(method: type[Fitted]) -> bool:
    """Whether it is an oracle, which looks at each input's own contrast vector."""
    return getattr(method, "needs_vectors", issubclass(method, P2S))


def built_on_l2s(method: type[Fitted]) -> bool:
    """Whether it is L2S and something more, for which L2S's own layers are taken."""
    own = issubclass(method, L2SGated | L2SLayers) or "L2S" in getattr(method, "made_of", ())
    return getattr(method, "built_on_l2s", own)


def seeded(method: type[Fitted]) -> bool:
    """Whether its fit draws random numbers, or that of L2S in it."""
    return "seed" in signature(method.fit).parameters or "L2S" in getattr(method, "made_of", ())

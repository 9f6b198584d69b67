"""`interv serve` and `interv verify`: the serving distribution's own commands, where it is installed."""

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec

MISSING = (
    "Serving is a distribution of its own, since a serving engine brings another transformers: in an environment "
    "for it, pip install interv-vllm (in a clone, ./serving), and call interv-vllm {} there."
)


def serve(words: Sequence[str]) -> None:
    """Pass all that was typed on to the serving distribution."""
    _passed_on("serve", words)


def verify(words: Sequence[str]) -> None:
    """Pass all that was typed on to the serving distribution."""
    _passed_on("verify", words)


def _passed_on(command: str, words: Sequence[str]) -> None:
    try:
        there = find_spec("interv_vllm.__main__") is not None
    except (ModuleNotFoundError, ValueError):  # not installed, or put out of reach
        there = False
    if not there:
        raise ModuleNotFoundError(MISSING.format(command))
    import_module("interv_vllm.__main__").main([command, *words])

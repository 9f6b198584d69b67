"""`interv serve` and `interv verify`: the serving distribution's own commands, where it is installed."""

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec

MISSING = (
    "Serving is a distribution of its own: pip install --no-deps interv-vllm (in a clone, ./serving) here, for the "
    "command `{0}`, and vLLM with interv-vllm in an environment of their own, since vLLM brings another transformers; "
    "`interv {0} --python` takes its python."
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

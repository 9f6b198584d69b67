"""`interv serve` and `interv verify`: the serving distribution's own commands, where it is installed."""

from importlib import import_module
from importlib.util import find_spec

import tyro

MISSING = (
    "Serving is a distribution of its own, since a serving engine brings other versions of torch: in an environment "
    "for it, pip install interv-vllm (in a clone, ./serving), and call interv-vllm {} there."
)


def serve(words: tyro.conf.Positional[tuple[str, ...]] = ()) -> None:
    """Pass all that is typed on to the serving distribution."""
    _passed_on("serve", words)


def verify(words: tyro.conf.Positional[tuple[str, ...]] = ()) -> None:
    """Pass all that is typed on to the serving distribution."""
    _passed_on("verify", words)


def _passed_on(command: str, words: tuple[str, ...]) -> None:
    if find_spec("interv_vllm") is None or find_spec("interv_vllm.__main__") is None:
        raise ModuleNotFoundError(MISSING.format(command))
    import_module("interv_vllm.__main__").main([command, *words])

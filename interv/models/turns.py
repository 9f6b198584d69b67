"""Turns: what threads share and only one may use at a time."""

from threading import Lock, RLock
from typing import Any
from weakref import WeakKeyDictionary

_TURNS: "WeakKeyDictionary[Any, Any]" = WeakKeyDictionary()
_MAKING = Lock()


def turn_of(shared: Any) -> Any:
    """The lock of a model or a tokenizer, one for all that wrap it; a thread that has it may take it again.

    A model keeps some of its state on itself while it generates, and a tokenizer its padding while it encodes.
    """
    with _MAKING:
        return _TURNS.setdefault(shared, RLock())

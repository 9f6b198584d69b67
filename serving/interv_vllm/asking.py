"""What one request asks for: the name of a steerer, and how strongly."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

KEY = "steer"
STRENGTH = "steer_strength"
LARGEST = 1e6  # far above any use; sums of such vectors leave half precision and spoil what shares their memory


class AskError(ValueError):
    """A request that cannot be steered as it asks."""


@dataclass(frozen=True)
class Ask:
    """A steerer's name; the strength is in multiples of its vector."""

    name: str
    strength: float = 1.0


def ask_of(extra: Mapping[str, Any] | None) -> Ask | None:
    """What the extra arguments of a request ask for, None where they say nothing of steering.

    Raises AskError where they do not make sense.
    """
    own = {key: value for key, value in (extra or {}).items() if str(key).lower().startswith(KEY)}
    if not own:
        return None
    if unknown := sorted(own.keys() - {KEY, STRENGTH}):
        raise AskError(f"{unknown[0]!r} is no argument of steering; these are {KEY!r} and {STRENGTH!r}.")
    if KEY not in own:
        raise AskError(f"{STRENGTH!r} was given without {KEY!r}; name the steerer as well, or leave both out.")
    name, strength = own[KEY], own.get(STRENGTH, 1.0)
    if not isinstance(name, str):
        raise AskError(f"{KEY!r} is {name!r}; it must be the name of a steerer, or be left out.")
    if isinstance(strength, bool) or not isinstance(strength, int | float):
        raise AskError(f"{STRENGTH!r} is {strength!r}; it must be a number.")
    if not abs(strength) <= LARGEST:
        raise AskError(f"{STRENGTH!r} is {strength!r}; it must be a finite number of at most {LARGEST:g} either way.")
    return Ask(name, float(strength))


def check_known(ask: Ask, names: Collection[str]) -> None:
    """Raises AskError where the engine has no steerer of this name."""
    if ask.name not in names:
        known = ", ".join(map(repr, sorted(names))) or "none at all"
        raise AskError(f"{KEY!r} is {ask.name!r}, which this engine has not loaded; it has {known}.")

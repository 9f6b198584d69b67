"""How far two judges of the same items agree."""

from collections import Counter
from collections.abc import Sequence

Value = int | float | str | None


def agreement(one: Sequence[Value], other: Sequence[Value]) -> dict[str, int | float]:
    """Records of two judges' verdicts on the same items, in the same order.

    n: items that both judged; unjudged: those that one or both did not. equal: share with the same verdict. kappa:
    Cohen's, agreement beyond what the judges' own shares give by chance (nan where that is all). gap: mean absolute
    difference, of numbers alone. Raises ValueError for lists of different lengths.
    """
    both = [(a, b) for a, b in zip(one, other, strict=True) if a is not None and b is not None]
    n = len(both)
    record: dict[str, int | float] = {
        "n": n,
        "unjudged": len(one) - n,
        "equal": float("nan"),
        "kappa": float("nan"),
        "gap": float("nan"),
    }
    if not both:
        return record
    equal = sum(a == b for a, b in both) / n
    first, second = (Counter(side) for side in zip(*both, strict=True))
    chance = sum(first[value] * second[value] for value in first) / n**2
    record |= {"equal": equal, "kappa": (equal - chance) / (1 - chance) if chance < 1 else float("nan")}
    if all(isinstance(value, int | float) for pair in both for value in pair):
        record["gap"] = sum(abs(float(a) - float(b)) for a, b in both) / n
    return record

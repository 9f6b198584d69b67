"""What a metric is: a function of sums over examples, mostly a ratio of two counts; and those of many tasks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

Row = dict[str, Any]
Record = dict[str, Any]


def _all(columns: Float[np.ndarray, "examples k"]) -> Bool[np.ndarray, " examples"]:
    return np.ones(len(columns), dtype=bool)


def _with_denominator(columns: Float[np.ndarray, "examples 2"]) -> Bool[np.ndarray, " examples"]:
    return columns[:, 1] != 0


@dataclass(frozen=True)
class Metric:
    """`columns` gives k numbers for a row; `value` maps their sums over rows, [..., k], to the metric, [...].

    `counts` tells from the examples' columns, [examples, k], which of them the metric stands on; all by default.
    """

    name: str
    columns: Callable[[Row], tuple[float, ...]]
    value: Callable[[np.ndarray], np.ndarray]
    counts: Callable[[np.ndarray], np.ndarray] = _all


def ratio(
    name: str, numerator: Callable[[Row], float], denominator: Callable[[Row], float] = lambda row: 1.0
) -> Metric:
    """Sum of `numerator` over sum of `denominator`; by default the mean of `numerator` over rows. 0 below gives nan.

    It stands on the examples whose denominator is not 0.
    """
    return Metric(name, lambda row: (float(numerator(row)), float(denominator(row))), _quotient, _with_denominator)


def _quotient(sums: np.ndarray) -> np.ndarray:
    above, below = sums[..., 0], sums[..., 1]
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below != 0)


def _says_yes(row: Row) -> float:
    return float(row["parsed"] == "yes")


def _is_yes(row: Row) -> float:
    return float(row["target"] == "yes")


def _both_yes(row: Row) -> float:
    return _says_yes(row) * _is_yes(row)


# The positive class is "yes". Equal to scikit-learn's with zero_division=nan, on the labels as they are parsed.
accuracy = ratio("accuracy", lambda row: row["parsed"] == row["target"])
precision = ratio("precision", _both_yes, _says_yes)
recall = ratio("recall", _both_yes, _is_yes)
f1 = ratio("f1", lambda row: 2 * _both_yes(row), lambda row: _says_yes(row) + _is_yes(row))
yes_ratio = ratio("yes_ratio", _says_yes)
unparsable = ratio("unparsable", lambda row: row["parsed"] == "")
valid = ratio("valid", lambda row: row["valid"])

YES_NO = (accuracy, precision, recall, f1, yes_ratio, unparsable, valid)

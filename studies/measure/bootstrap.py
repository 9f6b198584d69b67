"""Percentile bootstrap of sums: matrix products, weights [resamples, units] @ columns [units, k]."""

from functools import lru_cache

import numpy as np
from jaxtyping import Float, UInt8

NUMBERS = 4_000_000  # of the weights that are in float64 at a time, which is 32 MB


def resampled_sums(
    columns: Float[np.ndarray, "examples k"], units: np.ndarray, resamples: int, seed: int
) -> Float[np.ndarray, "resamples k"]:
    """Column sums of each resample. `units` [examples] are labels: examples of one unit are drawn together.

    Depends on the units' labels, their number and the seed alone, so two methods on the same examples are paired.
    """
    names, unit = np.unique(units, return_inverse=True)
    summed = np.zeros((len(names), columns.shape[1]))
    np.add.at(summed, unit, columns)
    weights = weights_of(len(names), resamples, seed)
    rows = max(1, NUMBERS // len(names))
    parts = [weights[start : start + rows].astype(np.float64) @ summed for start in range(0, resamples, rows)]
    return np.concatenate(parts)


def resampled_over_seeds(
    columns: Float[np.ndarray, "seeds examples k"], units: np.ndarray, resamples: int, seed: int
) -> Float[np.ndarray, "resamples k"]:
    """As `resampled_sums`, mean over as many seeds as there are, drawn anew in each resample as the units are.

    So an interval covers another training run as well as other inputs. Two methods of as many seeds are paired by the
    seeds' places too. Few seeds tell little of seeds: mind their number.
    """
    seeds, examples, width = columns.shape
    sums = resampled_sums(columns.transpose(1, 0, 2).reshape(examples, -1), units, resamples, seed)
    if seeds == 1:
        return sums
    drawn = np.random.default_rng(seed + 1).integers(0, seeds, (resamples, seeds))
    return np.take_along_axis(sums.reshape(resamples, seeds, width), drawn[:, :, None], axis=1).mean(axis=1)


@lru_cache(maxsize=4)
def weights_of(units: int, resamples: int, seed: int) -> UInt8[np.ndarray, "resamples units"]:
    """How often each unit is drawn in each resample. Cached: every method of a table asks for the same draws.

    Of a few units none is drawn more often than there are units, and of many none more than a dozen times: one byte.
    """
    generator = np.random.default_rng(seed)
    weights = np.empty((resamples, units), dtype=np.uint8)
    for row in weights:
        row[:] = np.bincount(generator.integers(0, units, units), minlength=units)
    weights.flags.writeable = False
    return weights


def interval(draws: Float[np.ndarray, " resamples"]) -> tuple[float, float]:
    """The 2.5th and 97.5th percentile of the draws that are defined; (nan, nan) where none is."""
    defined = draws[~np.isnan(draws)]
    if not defined.size:
        return float("nan"), float("nan")
    low, high = np.percentile(defined, [2.5, 97.5])
    return float(low), float(high)

"""Recall from a random sample of queries, with an interval that allows for pairs of one query being lost together.

The sample is of queries, so recall is a ratio of two sums over queries, and its variance is that of a ratio (Cochran,
Sampling Techniques, 1977, chapter 6). The interval is the exact binomial one (Clopper and Pearson 1934) at the number
of independent pairs that would have that variance; where too few queries lost a pair to measure one, at Kish's number
of effectively independent queries (1965), which is the worst case of such clustering.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv

from dedup_spark.kernels.arrays import expect

_FEW = 15  # with fewer queries that lost a pair, or that found one, their variance is not to be trusted


@dataclass(frozen=True)
class Recall:
    """Sums over the sample, and the estimate with its 95 % interval; nan and 0 to 1 without a true pair."""

    n_queries: int
    n_true: int
    n_found: int
    value: float
    low: float
    high: float


def estimate(n_true: npt.ArrayLike, n_found: npt.ArrayLike, n_population: int) -> Recall:
    """Recall of all pairs of `n_population` images from those of a sample without replacement, query by query.

    `n_true` and `n_found` count the pairs of each query of the sample; queries without pairs may be left in or out only
    if `n_population` counts alike.
    """
    t, f = np.asarray(n_true, np.float64), np.asarray(n_found, np.float64)
    expect(n_true=(t, "n", np.float64), n_found=(f, "n", np.float64))
    total, found, n = float(t.sum()), float(f.sum()), len(t)
    if total == 0:
        return Recall(n, 0, 0, math.nan, 0.0, 1.0)
    value = found / total
    if n >= n_population:
        return Recall(n, int(total), int(found), value, value, value)
    unseen = 1 - n / n_population
    kish = total**2 / float((t**2).sum())
    n_lossy, n_whole = int((f < t).sum()), int(((f > 0) & (t > 0)).sum())
    effective = kish
    if min(n_lossy, n_whole) >= _FEW:
        variance = n / max(1, n - 1) * float(((f - value * t) ** 2).sum()) / total**2
        effective = min(total, max(1.0, value * (1 - value) / max(variance, 1e-300)))
    low, high = binomial_interval(value, effective / unseen)
    return Recall(n, int(total), int(found), value, low, high)


def binomial_interval(share: float, n: float) -> tuple[float, float]:
    """Clopper and Pearson's 95 % interval for `share` of `n`, which need not be whole."""
    hits, misses = share * n, (1 - share) * n
    low = 0.0 if hits < 1e-9 else float(betaincinv(hits, misses + 1, 0.025))
    high = 1.0 if misses < 1e-9 else float(betaincinv(hits + 1, misses, 0.975))
    return min(low, share), max(high, share)

"""Which members of a group are compared with all others: its leaders, one at least for each picture that may be in it.

A first cut may leave several pictures in one group, chained by a collage that shows two of them. Were all leaders
copies of one picture, nothing would be known between the others but the pairs with the collage, which speak for a
merge.
"""

from __future__ import annotations

import numpy as np

from dedup_spark.kernels.arrays import Bools, Int64, expect

_USUAL, _MOST = 3, 8
_LEAST_SHARE, _LEAST_COPIES = 0.1, 3
"""A further picture is worth a leader when one of its members has so many likely copies that are copies of no leader so
far, and the two together are that share of the group. Fewer are outliers, which the usual leaders tell apart."""


def find_leaders(a: Int64, b: Int64, n: int) -> Int64:
    """The leaders of a group of n members, numbered from 0, ascending; none where no two are likely copies.

    The first is the member with the most likely copies; then, while there are pictures without a leader (see
    `_LEAST_SHARE`), the one with the most copies among their members, up to eight; then the members with the most
    copies of all, up to three. Of equal ones the first.

    Args:
        a, b: (m,) pairs of likely copies, each once.
    Cost: O(m) for each leader.
    """
    expect(a=(a, "m", np.int64), b=(b, "m", np.int64))
    degree = _copies(a, b, np.ones(n, bool))
    leaders: list[int] = []
    uncovered = np.ones(n, bool)
    while len(leaders) < _MOST:
        gain = np.where(uncovered, _copies(a, b, uncovered), 0)
        if gain.max(initial=0) < (max(_LEAST_COPIES, _LEAST_SHARE * n - 1) if leaders else 1):
            break
        leaders.append(int(gain.argmax()))
        uncovered[[leaders[-1], *b[a == leaders[-1]], *a[b == leaders[-1]]]] = False
    for member in np.argsort(-degree, kind="stable").tolist():
        if len(leaders) < _USUAL and degree[member] and member not in leaders:
            leaders.append(member)
    return np.sort(np.array(leaders, np.int64))


def _copies(a: Int64, b: Int64, counted: Bools) -> Int64:
    """(n,) how many counted members are likely copies of each."""
    n = len(counted)
    return np.bincount(a[counted[b]], minlength=n) + np.bincount(b[counted[a]], minlength=n)

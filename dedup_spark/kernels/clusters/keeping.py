"""Groups around keepers: every member directly near the member that is kept for it.

Linkage bounds the mean (or the largest) distance inside a group, not the distance to the one member that stays when
the others go. Here that distance is bounded: no path, no mean, the two images themselves.
"""

from __future__ import annotations

import numpy as np

from dedup_spark.kernels.arrays import Bools, Int64, expect


def centre(near: Bools, rank: Int64) -> int:
    """The row of (n, n) `near` with the most others near it; ties go to the lowest of (n,) `rank`."""
    expect(near=(near, "n n", np.bool_), rank=(rank, "n", np.int64))
    return int(np.lexsort((rank, -near.sum(axis=1)))[0])


def assign_keepers(near: Bools, rank: Int64) -> Int64:
    """Choose a keeper for every member of one group, splitting the group where no member is near all others.

    The keeper is the first by rank among the members that are near all others. If there is none, the member with
    the most others near it (ties: the better rank) forms a group with those; its keeper is chosen in the same way, and
    the rest goes on as a group of its own. A member near none of the rest keeps itself.

    Args:
        near: (n, n) symmetric, true on the diagonal: within the bound of each other.
        rank: (n,) distinct; the lowest is the first choice of the policy.

    Returns:
        (n,) int64: for each row the row of its keeper; a keeper's is its own.
    Cost: O(n^2).
    """
    expect(near=(near, "n n", np.bool_), rank=(rank, "n", np.int64))
    keeper = np.full(len(near), -1, np.int64)
    left = np.ones(len(near), bool)
    n_near = near.sum(axis=1)
    while left.any():
        rest = np.flatnonzero(left)
        first = rest[np.lexsort((rank[rest], -n_near[rest]))[0]]
        group = np.flatnonzero(near[first] & left)
        eligible = group[near[np.ix_(group, group)].all(axis=1)]
        keeper[group] = eligible[np.argmin(rank[eligible])]
        left[group] = False
        n_near -= near[:, group].sum(axis=1)
    return keeper

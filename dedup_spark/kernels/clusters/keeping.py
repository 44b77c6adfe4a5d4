"""Groups around keepers: the first by rank is kept, and every member is near it, or near a member that is.

Linkage bounds the mean (or the largest) distance inside a group, not the distance to the member that stays when others
go. Here that distance is bounded, in at most two steps: to the keeper, or to a supporting image that is itself within
the bound of the keeper. Each step is a comparison of two images; no path goes further, and no mean hides a stranger.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dedup_spark.kernels.arrays import Bools, Float32, Int64, expect


def centre(near: Bools, rank: Int64) -> int:
    """The row of (n, n) `near` with the most others near it; ties go to the lowest of (n,) `rank`."""
    expect(near=(near, "n n", np.bool_), rank=(rank, "n", np.int64))
    return int(np.lexsort((rank, -near.sum(axis=1)))[0])


@dataclass(frozen=True, slots=True)
class Kept:
    """(n,) int64 rows for each member: its keeper (a keeper's is its own), and what it is near: the keeper itself, or
    the supporting image between the two."""

    keeper: Int64
    near: Int64


def assign_keepers(distance: Float32, alike: Bools, rank: Int64) -> Kept:
    """Choose a keeper for every member of one group, splitting the group where two steps do not reach from it.

    The keeper is the first by rank. With it go the members near it, and those near one of these, their supporting
    image: of those that are not alike to the keeper, and so likely to stay, the nearest, else the nearest of all. What
    is left goes on as a group of its own. A member near nobody keeps itself.

    Args:
        distance: (n, n) symmetric, 0 on the diagonal; inf where two are not within the bound of each other.
        alike: (n, n) symmetric: pairs of which one may be a mere re-encoding of the other.
        rank: (n,) distinct; the lowest is the first choice of the policy.
    Cost: O(n^2) for each group that comes out.
    """
    expect(distance=(distance, "n n", np.float32), alike=(alike, "n n", np.bool_), rank=(rank, "n", np.int64))
    keeper, near = (np.full(len(rank), -1, np.int64) for _ in "kn")
    left = np.ones(len(rank), bool)
    for first in np.argsort(rank).tolist():
        if left[first]:
            within = left & np.isfinite(distance[first])
            others = np.flatnonzero(left & ~within)
            supporting = _supporting(distance, np.flatnonzero(within), others, alike[first])
            reached = others[supporting >= 0]
            near[within], near[reached] = first, supporting[supporting >= 0]
            group = np.append(np.flatnonzero(within), reached)
            keeper[group], left[group] = first, False
    return Kept(keeper, near)


def _supporting(distance: Float32, within: Int64, others: Int64, alike: Bools) -> Int64:
    """For each of `others` the member of `within` that supports it; -1 where none is near."""
    if not len(others):
        return np.empty(0, np.int64)
    away = distance[np.ix_(others, within)]
    preferred = np.where(alike[within], np.inf, away)
    chosen = np.where(np.isfinite(preferred).any(axis=1), preferred.argmin(axis=1), away.argmin(axis=1))
    return np.where(np.isfinite(away).any(axis=1), within[chosen], -1)

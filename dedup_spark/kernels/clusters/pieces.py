"""Pairs of a component that is too large to be grouped as one, sorted into the pieces that it is grouped in."""

from __future__ import annotations

import itertools

import numpy as np

from dedup_spark.kernels.arrays import Int64, expect


def rows_of_pieces(members: Int64, a: Int64, b: Int64, size: int) -> list[Int64]:
    """For each piece the places of the pairs between two of its members, ascending.

    Each pair is looked at once: a component of two million images has a thousand pieces, and to search all its pairs
    for each of them would take hours.

    Args:
        members: (n,) distinct ids in the order of the pieces; the first `size` are one piece, and so on.
        a, b: (m,) pairs of members.
        size: At least 1.

    Cost: O((n + m) log(n + m)) time.
    """
    expect(members=(members, "n", np.int64), a=(a, "m", np.int64), b=(b, "m", np.int64))
    order = np.argsort(members)
    of_a, of_b = (order[np.searchsorted(members, ends, sorter=order)] // size for ends in (a, b))
    inside = np.flatnonzero(of_a == of_b)
    rows = inside[np.argsort(of_a[inside], kind="stable")]
    starts = np.searchsorted(of_a[rows], np.arange(-(-len(members) // size) + 1))
    return [rows[start:end] for start, end in itertools.pairwise(starts.tolist())]

"""Near hashes among rows of one bucket (an equal key): the last step of an exact join on parts of the hash."""

from __future__ import annotations

import numpy as np

from dedup_spark.kernels.arrays import Int64, expect
from dedup_spark.kernels.features.hashing import hamming_bits


def near_in_buckets(keys: Int64, hashes: Int64, max_bits: int, max_bucket: int) -> tuple[Int64, Int64]:
    """Rows i < j of one bucket whose hashes differ in at most `max_bits` bits, in no order.

    Args:
        keys: (n,) int64, equal ones side by side.
        hashes: (n,) int64, any 64 bits.
        max_bucket: a bucket of more rows than this proposes nothing.
    Cost: as many vector passes as the largest bucket has rows; 8 bytes per pair.
    """
    expect(keys=(keys, "n", np.int64), hashes=(hashes, "n", np.int64))
    starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]]) if len(keys) else np.empty(0, np.int64)
    sizes = np.diff(np.r_[starts, len(keys)])
    is_small = (sizes >= 2) & (sizes <= max_bucket)
    ends = np.repeat(starts + sizes, sizes)
    rows = np.flatnonzero(np.repeat(is_small, sizes))
    found_i, found_j = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for step in range(1, max_bucket):
        rows = rows[rows + step < ends[rows]]
        if len(rows) == 0:
            break
        near = rows[hamming_bits(hashes[rows], hashes[rows + step]) <= max_bits]
        found_i.append(near)
        found_j.append(near + step)
    return np.concatenate(found_i), np.concatenate(found_j)

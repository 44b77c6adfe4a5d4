"""Pairs inside buckets against a double loop."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from dedup_spark.kernels.joins.hashes import near_in_buckets


@pytest.mark.parametrize(("seed", "max_bits", "max_bucket"), [(0, 3, 64), (1, 0, 64), (2, 3, 5), (3, 3, 2)])
def test_pairs_are_those_of_a_double_loop(seed: int, max_bits: int, max_bucket: int) -> None:
    rng = np.random.default_rng(seed)
    keys = np.sort(rng.integers(-40, 40, 300))
    hashes = rng.integers(-(2**63), 2**63 - 1, 30)[rng.integers(0, 30, 300)] ^ (1 << rng.integers(0, 62, 300))
    i, j = near_in_buckets(keys, hashes, max_bits, max_bucket)
    expected = {
        (a, b)
        for a, b in itertools.combinations(range(300), 2)
        if keys[a] == keys[b]
        and np.count_nonzero(keys == keys[a]) <= max_bucket
        and (int(hashes[a]) ^ int(hashes[b])).bit_count() <= max_bits
    }
    assert len(i) == len(expected)
    assert set(zip(i.tolist(), j.tolist(), strict=True)) == expected


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_rows_make_no_pair(n: int) -> None:
    i, j = near_in_buckets(np.zeros(n, np.int64), np.zeros(n, np.int64), 3, 64)
    assert len(i) == len(j) == 0

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
    hashes[::3] ^= 7  # some differ in exactly 3 bits more
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


def test_two_rows_of_one_bucket_are_compared_when_no_other_bucket_is_left() -> None:
    i, j = near_in_buckets(np.array([4, 4, 4, 9, 9]), np.array([0, -1, 7, 1, 1]), 3, 3)
    assert sorted(zip(i.tolist(), j.tolist(), strict=True)) == [(0, 2), (3, 4)]


def test_keys_and_hashes_of_another_length_or_dtype_are_refused() -> None:
    keys = np.zeros(3, np.int64)
    with pytest.raises(ValueError, match=r"hashes: expected int64 of shape \(n\), n = 3; found int64 of shape \(2,\)"):
        near_in_buckets(keys, keys[:2], 3, 64)
    with pytest.raises(ValueError, match=r"hashes: expected int64 .* found uint64"):
        near_in_buckets(keys, keys.astype(np.uint64), 3, 64)

"""Which image of a pair is the query image follows from the pixels of the two, and from nothing else."""

from __future__ import annotations

import hashlib

import numpy as np

from dedup_spark.kernels.comparing.query_images import content_key, content_keys, is_query

DIGESTS = np.stack([np.frombuffer(hashlib.sha256(bytes([i])).digest(), np.uint8) for i in range(200)])
KEYS = content_keys(DIGESTS)


def test_of_two_images_one_is_the_query_image_whichever_is_asked() -> None:
    asked = is_query(KEYS[:, None], KEYS[None])
    apart = ~np.eye(len(KEYS), dtype=bool)
    assert (asked ^ asked.T)[apart].all()
    assert not asked[~apart].any()


def test_each_image_is_the_query_image_of_about_half_of_its_pairs() -> None:
    """Also the one of the smallest key, and the one of the largest."""
    share = is_query(KEYS[:, None], KEYS[None]).mean(axis=1)
    assert 0.3 < share.min() < share.max() < 0.7


def test_a_key_is_the_last_60_bits_of_the_hash_however_it_is_written() -> None:
    written = [digest.tobytes().hex() for digest in DIGESTS]
    assert [content_key(text) for text in written] == KEYS.tolist()
    assert [content_key(f"scaled-4:{text}") for text in written] == KEYS.tolist()
    assert all(0 <= key < 1 << 60 for key in KEYS.tolist())
    assert KEYS.max() > 1 << 59


def test_sums_of_the_largest_keys_do_not_overflow() -> None:
    most = content_keys(np.full((1, 32), 255, np.uint8))
    assert is_query(np.array([1]), most).tolist() == [True]
    assert is_query(most, np.array([0])).tolist() == [True]

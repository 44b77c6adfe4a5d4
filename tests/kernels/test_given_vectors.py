"""Vectors of users: each becomes a row of length one, or says why it cannot."""

from __future__ import annotations

import numpy as np
import pytest

from dedup_spark.kernels.given_vectors import FAULTS, VectorFault, to_embeddings


def flat(*vectors: list[float] | None, dtype: type = np.float32) -> tuple[np.ndarray, np.ndarray]:
    values = [number for vector in vectors for number in vector or []]
    return np.array(values, dtype), np.array([-1 if v is None else len(v) for v in vectors], np.int64)


def why(faults: np.ndarray) -> list[VectorFault | None]:
    return [FAULTS[fault] for fault in faults]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("d", [8, 96, 2048])
def test_vectors_get_length_one_and_keep_their_direction(dtype: type, d: int) -> None:
    x = np.random.default_rng(d).standard_normal((50, d)).astype(dtype) * dtype(3)
    made, faults = to_embeddings(x.ravel(), np.full(50, d, np.int64), d)
    assert (made.dtype, made.shape, set(faults)) == (np.float16, (50, d), {0})
    wanted = x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
    assert np.abs(made - wanted).max() < 5e-4


def test_what_cannot_be_used_says_why_and_leaves_the_others_alone() -> None:
    good = [3.0, 0.0, 4.0]
    bad = [None, [1.0, 2.0], [1.0, 2.0, 3.0, 4.0], [], [1.0, np.nan, 2.0], [1.0, np.inf, 2.0], [0.0, 0.0, 0.0]]
    vectors = [vector for one in bad for vector in (good, one)]
    made, faults = to_embeddings(*flat(*vectors, good), 3)
    other, nan = VectorFault.DIMENSIONS, VectorFault.NAN
    assert why(faults[1::2]) == [VectorFault.NONE, other, other, other, nan, nan, VectorFault.ZERO]
    assert not faults[::2].any()
    assert np.array_equal(made[::2], np.tile(np.float16([0.6, 0, 0.8]), (8, 1)))
    assert not made[1::2].any()


@pytest.mark.parametrize("scale", [1e-310, 1e-40, 1e-20, 1e20, 1e38, 1e300])
def test_neither_huge_nor_tiny_numbers_overflow(scale: float) -> None:
    made, faults = to_embeddings(*flat([3 * scale, 0, -4 * scale], dtype=np.float64), 3)
    assert not faults.any()
    assert made[0].tolist() == pytest.approx([0.6, 0, -0.8], abs=5e-4)


def test_no_vector_at_all_and_a_batch_of_none() -> None:
    made, faults = to_embeddings(*flat(), 4)
    assert (made.shape, faults.shape) == ((0, 4), (0,))
    made, faults = to_embeddings(*flat(None, None), 4)
    assert (made.shape, why(faults)) == ((2, 4), [VectorFault.NONE] * 2)

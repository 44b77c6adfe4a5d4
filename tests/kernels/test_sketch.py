from __future__ import annotations

import math

import numpy as np
import pytest

from dedup_spark.kernels import sketch


def unit(rng: np.random.Generator, n: int, d: int = 512) -> np.ndarray:
    x = rng.standard_normal((n, d)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def at_cosine(rng: np.random.Generator, a: np.ndarray, cosine: float) -> np.ndarray:
    other = unit(rng, len(a))
    other -= (other * a).sum(1, keepdims=True) * a
    other /= np.linalg.norm(other, axis=1, keepdims=True)
    return (cosine * a + math.sqrt(1 - cosine**2) * other).astype(np.float32)


@pytest.mark.parametrize("min_similarity", [0.4, 0.45, 0.7, 0.9])
def test_the_radius_keeps_the_recall_that_was_asked_for(min_similarity: float) -> None:
    rng = np.random.default_rng(1)
    a = unit(rng, 20_000)
    b = at_cosine(rng, a, min_similarity)
    n_bits = sketch.choose_bits(min_similarity)
    bits = np.bitwise_count(sketch.make_sketches(a, n_bits, 7) ^ sketch.make_sketches(b, n_bits, 7)).sum(1)
    assert (bits <= sketch.radius_bits(n_bits, min_similarity, 0.999)).mean() >= 0.999


@pytest.mark.parametrize("min_similarity", [0.4, 0.45, 0.7, 0.9])
def test_the_radius_keeps_strangers_out(min_similarity: float) -> None:
    rng = np.random.default_rng(2)
    n_bits = sketch.choose_bits(min_similarity)
    s = sketch.make_sketches(unit(rng, 2_000), n_bits, 7)
    bits = np.bitwise_count(s[:1000, None] ^ s[None, 1000:]).sum(2)
    assert (bits <= sketch.radius_bits(n_bits, min_similarity, 0.999)).mean() < 2e-5


def test_a_rotation_is_orthonormal_and_repeatable() -> None:
    r = sketch.rotation(64, 128, 3)
    assert r.shape == (64, 128)
    assert np.allclose(r[:, :64].T @ r[:, :64], np.eye(64), atol=1e-5)
    assert np.array_equal(r, sketch.rotation(64, 128, 3))
    assert not np.array_equal(r, sketch.rotation(64, 128, 4))


def test_a_vector_is_at_distance_zero_from_itself_and_all_bits_from_its_opposite() -> None:
    x = unit(np.random.default_rng(3), 5)
    s, opposite = sketch.make_sketches(x, 256, 1), sketch.make_sketches(-x, 256, 1)
    assert (np.bitwise_count(s ^ opposite).sum(1) == 256).all()
    assert sketch.radius_bits(256, 1.0, 0.999) <= 1

from __future__ import annotations

import math

import numpy as np
import pytest

from dedup_spark.kernels.joins import sketches


def unit(rng: np.random.Generator, n: int, d: int = 512) -> np.ndarray:
    x = rng.standard_normal((n, d)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def at_cosine(rng: np.random.Generator, a: np.ndarray, cosine: float) -> np.ndarray:
    other = unit(rng, len(a))
    other -= (other * a).sum(1, keepdims=True) * a
    other /= np.linalg.norm(other, axis=1, keepdims=True)
    return (cosine * a + math.sqrt(1 - cosine**2) * other).astype(np.float32)


def within(a: np.ndarray, b: np.ndarray, used: sketches.SketchFilter) -> np.ndarray:
    """By row: whether both stages let the pair pass."""
    differ = np.bitwise_count(a ^ b)
    return (differ[..., : used.first_bits // 8].sum(-1) <= used.first_radius) & (differ.sum(-1) <= used.radius)


@pytest.mark.parametrize("demands", [((0.4, 0.999),), ((0.45, 0.99),), ((0.7, 0.999),), ((0.45, 0.999), (0.3, 0.9))])
@pytest.mark.parametrize("scoring", [100.0, 50_000.0])
def test_a_filter_keeps_the_recall_that_was_asked_for(demands: tuple[tuple[float, float], ...], scoring: float) -> None:
    """Whatever the costs make it choose."""
    rng = np.random.default_rng(1)
    a = unit(rng, 20_000)
    used = sketches.choose_filter(demands, costs=sketches.SketchCosts(score=scoring))
    for cosine, recall in demands:
        made = [sketches.make_sketches(x, used.n_bits, 7) for x in (a, at_cosine(rng, a, cosine))]
        assert within(*made, used).mean() >= recall


def test_a_filter_is_chosen_by_what_the_negatives_cost() -> None:
    """Far negatives: few bits will do. Near ones, or dear scores: more bits."""
    demands = [(0.7, 0.999)]
    far, near = (sketches.CosineHistogram.of(np.full(10, cosine)) for cosine in (0.0, 0.4))
    chosen = [sketches.choose_filter(demands, negatives) for negatives in (far, near)]
    assert chosen[0].n_bits < chosen[1].n_bits
    assert sketches.choose_filter(demands, far, sketches.SketchCosts(kept=1e-3, word=1e-3)).first_bits == 128
    assert sketches.choose_filter(demands, near, sketches.SketchCosts(word=1e6)).rest_bits == 0


def test_negatives_are_known_by_the_cosines_within_a_sample() -> None:
    rng = np.random.default_rng(2)
    x = rng.standard_normal((500, 512)) + 0.7 * rng.standard_normal(512)
    vectors = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float16)
    found = sketches.negatives_of(vectors)
    between = (vectors.astype(float) @ vectors.astype(float).T)[np.triu_indices(500, 1)]
    assert sum(found.shares) == pytest.approx(1)
    assert np.dot(found.cosines, found.shares) == pytest.approx(between.mean(), abs=0.005)
    assert sketches.negatives_of(vectors[:10]) == sketches.NEGATIVES
    assert max(abs(c) for c in sketches.negatives_of(np.eye(64, dtype="<f2")).cosines) < 0.02
    many = sketches.negatives_of(np.tile(vectors[:300], (9, 1)))  # more rows than are looked at
    assert np.dot(many.cosines, many.shares) == pytest.approx(between.mean(), abs=0.02)


@pytest.mark.parametrize("cosine", [0.0, 0.2, 0.5])
def test_the_share_of_negatives_that_pass_is_predicted(cosine: float) -> None:
    rng = np.random.default_rng(2)
    a = unit(rng, 40_000)
    made = [sketches.make_sketches(x, 128, 7) for x in (a, at_cosine(rng, a, cosine))]
    passed = (np.bitwise_count(made[0] ^ made[1]).sum(1) <= 54).mean()
    predicted = sketches.passing_share(128, 54, sketches.CosineHistogram.of(np.full(5, cosine)))
    assert passed == pytest.approx(predicted, rel=0.25)


def test_a_rotation_is_orthonormal_and_repeatable() -> None:
    r = sketches.rotation(64, 128, 3)
    assert r.shape == (64, 128)
    assert np.allclose(r[:, :64].T @ r[:, :64], np.eye(64), atol=1e-5)
    assert np.array_equal(r, sketches.rotation(64, 128, 3))
    assert not np.array_equal(r, sketches.rotation(64, 128, 4))


def test_a_vector_is_at_distance_zero_from_itself_and_all_bits_from_its_opposite() -> None:
    x = unit(np.random.default_rng(3), 5)
    s, opposite = sketches.make_sketches(x, 256, 1), sketches.make_sketches(-x, 256, 1)
    assert (np.bitwise_count(s ^ opposite).sum(1) == 256).all()
    assert sketches.radius_bits(256, 1.0, 0.999) <= 1

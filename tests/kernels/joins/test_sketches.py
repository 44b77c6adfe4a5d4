from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

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


def test_radii_follow_the_binomial_deviation() -> None:
    """At cosine 0.5 a bit differs with probability 1/3: 42.7 of 128 bits, and 3.09 deviations of 5.33, and one."""
    assert sketches.radius_bits(128, 0.5, 0.999) == math.ceil(128 / 3 + 3.0902 * 16 / 3) + 1 == 61
    assert sketches.radius_bits(128, -0.99, 0.999) == 128, "never more than all bits"


def test_each_of_two_stages_is_allowed_half_of_the_misses() -> None:
    near = sketches.CosineHistogram.of(np.full(10, 0.4))
    used = sketches.choose_filter([(0.7, 0.98)], near)
    assert used.rest_bits
    assert used.first_radius == sketches.radius_bits(used.first_bits, 0.7, 0.99)
    assert used.radius == sketches.radius_bits(used.n_bits, 0.7, 0.99)
    alone = sketches.choose_filter([(0.7, 0.98)], near, sketches.SketchCosts(word=1e6))
    assert alone.first_radius == sketches.radius_bits(alone.first_bits, 0.7, 0.98)


@pytest.mark.parametrize(("n_bits", "radius"), [(128, 60), (128, 70), (512, 250)])
def test_the_passing_share_is_that_of_the_binomial_distribution(n_bits: int, radius: int) -> None:
    negatives = sketches.CosineHistogram((0.0, 0.2), (0.25, 0.75))
    exact = [binom.cdf(radius, n_bits, math.acos(cosine) / math.pi) for cosine in negatives.cosines]
    assert sketches.passing_share(n_bits, radius, negatives) == pytest.approx(np.dot(exact, negatives.shares), abs=2e-3)


def test_the_cost_counts_both_stages_and_the_scoring_of_what_passes() -> None:
    costs, negatives = sketches.SketchCosts((1, 2, 3, 4), kept=10, word=0.5, score=100), sketches.NEGATIVES
    used = sketches.SketchFilter(256, 128, 110, 160)
    passed, scored = sketches.passing_share(256, 110, negatives), sketches.passing_share(384, 160, negatives)
    assert scored < passed
    assert sketches.filter_cost(used, negatives, costs) == pytest.approx(3 + passed * (10 + 0.5 * 2) + scored * 100)


def test_sketches_of_every_length_to_choose_from_are_whole_words() -> None:
    assert all(bits % 32 == 0 for bits in sketches.FIRST_BITS)

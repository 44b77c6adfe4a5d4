from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest

from dedup_spark.commands.plan.estimates import (
    SampleCounts,
    between,
    equal_in_sample,
    estimate,
    growth_exponent,
    near_in_sample,
    sample_to_see,
)

Labels = npt.NDArray[np.int64]


def lake(sizes: list[int], n: int, seed: int) -> Labels:
    """Labels of n images in random order; images of one group have one label."""
    labels, start = np.arange(n), 0
    for size in sizes:
        labels[start : start + size] = start
        start += size
    return np.random.default_rng(seed).permutation(labels)


def truth(sizes: list[int]) -> tuple[int, int, int]:
    """Pairs, images in groups, images beyond the first of each."""
    return sum(s * (s - 1) // 2 for s in sizes), sum(sizes), sum(s - 1 for s in sizes)


MIXED = [2] * 300 + [3] * 200 + [6] * 100 + [20] * 10


@pytest.mark.parametrize("n_sample", [200, 1000])
@pytest.mark.parametrize("sizes", [[2] * 1000, MIXED, [300] + [2] * 300], ids=["couples", "mixed", "one large"])
def test_intervals_hold_the_truth_in_nine_of_ten_samples(sizes: list[int], n_sample: int) -> None:
    n_held = np.zeros(3)
    for seed in range(100):
        found = estimate(equal_in_sample(lake(sizes, 10_000, seed)[:n_sample].tolist()), n_sample, 10_000)
        held = [
            r.low <= t <= r.high for r, t in zip((found.pairs, found.images, found.extra), truth(sizes), strict=True)
        ]
        n_held += held
    assert (n_held >= 90).all(), n_held


def test_the_estimate_of_pairs_is_right_on_average() -> None:
    values = [
        estimate(equal_in_sample(lake(MIXED, 10_000, seed)[:500].tolist()), 500, 10_000).pairs.value
        for seed in range(200)
    ]
    assert np.mean(values) == pytest.approx(truth(MIXED)[0], rel=0.05)


def test_a_sample_that_is_the_whole_lake_is_exact() -> None:
    found = estimate(equal_in_sample(lake(MIXED, 10_000, 0).tolist()), 10_000, 10_000)
    for r, t in zip((found.pairs, found.images, found.extra), truth(MIXED), strict=True):
        assert r.value == t
    assert found.pairs.low == found.pairs.high


def test_a_sample_without_a_pair_still_says_how_many_there_may_be() -> None:
    found = estimate(SampleCounts(0, 0, 0, 0, ()), 400, 40_000)
    assert (found.pairs.value, found.pairs.low) == (0, 0)
    assert found.pairs.high == pytest.approx(3.69 * 100**2, rel=0.01)  # the rule of three, two-sided


def test_no_estimate_exceeds_the_lake_or_falls_below_what_was_seen() -> None:
    found = estimate(equal_in_sample(["x"] * 50), 50, 60)
    assert found.pairs.high <= 60 * 59 / 2
    assert found.images.high <= 60
    assert found.pairs.low >= found.seen.n_pairs


@pytest.mark.parametrize(("n_sample", "n_lake"), [(1, 10), (0, 0), (11, 10)])
def test_samples_that_cannot_be_are_refused(n_sample: int, n_lake: int) -> None:
    with pytest.raises(ValueError, match="sample"):
        estimate(SampleCounts(0, 0, 0, 0, ()), n_sample, n_lake)


@pytest.mark.parametrize("n", [0, 1, 2, 7, 300, 2500])
def test_near_pairs_are_those_of_a_double_loop(n: int) -> None:
    rng = np.random.default_rng(n)
    x = rng.standard_normal((n, 6))
    x = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)).astype(np.float16)
    y = x.astype(np.float64)
    y /= np.maximum(np.linalg.norm(y, axis=1, keepdims=True), 1e-12)
    cosine = np.triu(y @ y.T, k=1)
    found = near_in_sample(x, (0.9, 0.6))
    for threshold in (0.9, 0.6):
        seen, near = found.counts_at(threshold), cosine >= threshold
        degree = near.sum(axis=0) + near.sum(axis=1)
        assert list(found.degree_at(threshold)) == list(degree)
        assert seen.n_pairs == near.sum()
        assert seen.n_paths == (degree * (degree - 1)).sum() // 2
        assert seen.n_images == (degree > 0).sum()
        assert list(seen.by_size) == [(m, near[:m, :m].sum()) for m, _ in seen.by_size]


def test_equal_labels_are_counted_without_making_pairs() -> None:
    labels = ["a", "b", "a", "c", "a", "b"]
    pairs = [(i, j) for i, j in itertools.combinations(range(6), 2) if labels[i] == labels[j]]
    seen = equal_in_sample(labels, n_sizes=6)
    assert (seen.n_pairs, seen.n_images, seen.n_extra) == (len(pairs), 5, 3)
    assert dict(seen.by_size) == {m: sum(j < m for _, j in pairs) for m in range(1, 7)}
    assert equal_in_sample(["x"] * 200_000).n_pairs == 200_000 * 199_999 // 2


def test_pairs_of_a_random_sample_grow_with_its_square() -> None:
    seen = equal_in_sample(lake([2] * 4000, 10_000, 1)[:4000].tolist())
    exponent = growth_exponent(seen.by_size)
    assert exponent is not None
    assert 1.7 < exponent < 2.3
    assert growth_exponent([(100, 0), (200, 1)]) is None


def test_the_sample_that_shows_ten_pairs_does() -> None:
    n = sample_to_see(10, 10_000, 0.4)
    counts = [equal_in_sample(lake([2] * 2000, 10_000, seed)[:n].tolist()).n_pairs for seed in range(100)]
    assert np.mean(counts) == pytest.approx(10, rel=0.15)


def test_an_estimate_stays_between_what_is_known_for_certain() -> None:
    blind = estimate(SampleCounts(0, 0, 0, 0, ()), 400, 40_000)
    found = between(blind, (5, 70), (10, 100))
    assert (found.pairs.low, found.pairs.value, found.pairs.high) == (5, 5, 70)
    assert (found.images.low, found.images.high) == (10, 100)
    assert (found.extra.low, found.extra.high) == (5, 100)
    assert between(blind, (0, float("inf")), (0, float("inf"))) == blind


def test_images_in_groups_of_three_are_counted_from_pairs_and_from_pairs_that_share_an_image() -> None:
    """100,000 groups of three in a million images: a tenth shows 1 % of their 300,000 pairs and 0.1 % of the paths."""
    found = estimate(SampleCounts(n_pairs=3_000, n_paths=300, n_images=5_700, n_extra=2_900), 100_000, 1_000_000)
    assert found.pairs.value == pytest.approx(300_000, rel=1e-3)
    assert found.images.value == pytest.approx(300_000, rel=1e-3)
    assert found.extra.value == pytest.approx(200_000, rel=1e-3)

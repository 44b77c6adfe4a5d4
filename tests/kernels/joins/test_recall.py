"""The interval of the recall holds the truth as often as it says, whatever loses the pairs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dedup_spark.kernels.joins import recall


def lake(rng: np.random.Generator, sizes: str, loss: str) -> tuple[np.ndarray, np.ndarray]:
    """For each of 10,000 images its true pairs and those found: groups of images, pairs lost alone or by group."""
    n_true, n_found, at = np.zeros(10_000, int), np.zeros(10_000, int), 0
    while at < 6_000:
        n = {"pairs": 2, "heavy tail": int(min(1_000, 2 + 2 * rng.pareto(1.2)))}[sizes]
        share = {"1 in 100": 0.01, "1 in 10": 0.1, "by group": rng.beta(0.1, 1.9)}[loss]
        found = np.triu(rng.random((n, n)) >= share, 1)
        n_true[at : at + n], n_found[at : at + n] = n - 1, (found | found.T).sum(1)
        at += n
    return n_true, n_found


@pytest.mark.parametrize("loss", ["1 in 100", "1 in 10", "by group"])
@pytest.mark.parametrize("sizes", ["pairs", "heavy tail"])
@pytest.mark.parametrize("n_queries", [200, 1000])
def test_93_of_100_intervals_hold_the_true_recall(sizes: str, loss: str, n_queries: int) -> None:
    rng = np.random.default_rng(1)
    n_true, n_found = lake(rng, sizes, loss)
    truth, held = n_found.sum() / n_true.sum(), 0
    for _ in range(200):
        q = rng.choice(10_000, n_queries, replace=False)
        found = recall.estimate(n_true[q], n_found[q], 10_000)
        held += found.low <= truth <= found.high
        assert found.low <= found.value <= found.high
    assert held >= 186


def test_a_sample_that_lost_nothing_proves_no_more_than_its_queries() -> None:
    """Rule of three on queries: 300 pairs of one group say less than 300 pairs of 300 groups."""
    alone = recall.estimate(np.ones(300), np.ones(300), 10**6)
    assert (alone.value, alone.high) == (1, 1)
    assert alone.low == pytest.approx(1 - 3.7 / 300, abs=1e-3)
    one_group = recall.estimate([300] + [0] * 299, [300] + [0] * 299, 10**6)
    assert one_group.low < 0.03


def test_everything_as_the_sample_leaves_no_doubt() -> None:
    found = recall.estimate([1, 2, 3], [1, 1, 3], 3)
    assert (found.value, found.low, found.high) == (5 / 6, 5 / 6, 5 / 6)


def test_without_a_pair_nothing_is_known() -> None:
    found = recall.estimate([0, 0], [0, 0], 100)
    assert math.isnan(found.value)
    assert (found.n_true, found.low, found.high) == (0, 0.0, 1.0)


@pytest.mark.parametrize("n", [1, 20, 300, 300_000])
def test_the_interval_of_all_or_none_is_known_in_closed_form(n: int) -> None:
    assert recall.binomial_interval(1, n) == pytest.approx((0.025 ** (1 / n), 1), abs=1e-12)
    assert recall.binomial_interval(0, n) == pytest.approx((0, 1 - 0.025 ** (1 / n)), abs=1e-12)


@pytest.mark.parametrize(("hits", "n", "low", "high"), [(8, 10, 0.4439, 0.9748), (95, 100, 0.8872, 0.9836)])
def test_the_binomial_interval_is_that_of_the_tables(hits: int, n: int, low: float, high: float) -> None:
    assert recall.binomial_interval(hits / n, n) == pytest.approx((low, high), abs=1e-4)


def test_the_larger_the_share_of_the_images_that_was_asked_the_narrower_the_interval() -> None:
    """Finite-population correction: half of all queries say as much as twice as many of an endless number."""
    found = recall.estimate(np.ones(300), np.ones(300), 600)
    assert found.low == pytest.approx(0.025 ** (1 / 600), abs=1e-6)


@pytest.mark.parametrize("of_losses", [True, False], ids=["few lossy queries", "few whole queries"])
def test_with_fewer_than_15_queries_of_a_kind_their_variance_is_not_trusted(of_losses: bool) -> None:
    """Each query has 10 pairs and loses one, or keeps one: that is even, so that a variance narrows the interval."""

    def low(n_queries: int) -> tuple[float, float]:
        n_found = np.full(300, 10 if of_losses else 0)
        n_found[:n_queries] += -1 if of_losses else 1
        found = recall.estimate(np.full(300, 10), n_found, 10**9)
        return found.low, recall.binomial_interval(found.value, 300)[0]

    few, by_queries = low(14)
    assert few == pytest.approx(by_queries, abs=1e-6)
    enough, by_queries = low(15)
    assert enough > by_queries + 0.001

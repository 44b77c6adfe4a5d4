"""Precision and recall over cuts, against a loop over the pairs."""

from __future__ import annotations

import numpy as np
import pytest

from dedup_spark.commands.dendrogram.curves import Scored, cuts_near_zero, even_cuts, points_of


@pytest.mark.parametrize("seed", range(3))
def test_points_are_what_a_loop_over_the_pairs_counts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, probability = rng.uniform(0, 1, 300).round(2), rng.uniform(0, 1, 300)
    height[:20] = np.inf
    cuts = even_cuts(1.0, 0.37)
    for point in points_of(Scored.each(height, probability), cuts):
        joined = [p for h, p in zip(height, probability, strict=True) if h <= point.cut + 1e-9]
        assert point.n_pairs == len(joined)
        assert point.precision == pytest.approx(np.mean(joined))
        assert point.recall == pytest.approx(sum(joined) / probability.sum())


def test_pairs_in_steps_count_as_the_pairs_that_they_are() -> None:
    steps = Scored(np.array([0.02, 0.5]), np.array([8.0, 2.0]), np.array([7.9, 1.1]))
    at = points_of(steps, [0.01, 0.02, 1.0])
    assert [(p.n_pairs, p.precision, p.recall) for p in at] == [
        (0, None, 0.0),
        (8, pytest.approx(7.9 / 8), pytest.approx(7.9 / 9)),
        (10, pytest.approx(0.9), 1.0),
    ]


def test_without_copies_there_is_no_recall() -> None:
    (point,) = points_of(Scored.each(np.array([0.1]), np.array([0.0])), [0.5])
    assert (point.precision, point.recall) == (0.0, None)


@pytest.mark.parametrize("used", [0.0197, 0.5, 0.02])
def test_the_cut_of_the_run_is_one_of_the_cuts(used: float) -> None:
    for cuts in (even_cuts(1.0, used), cuts_near_zero(used)):
        assert used in cuts
        assert cuts == sorted(set(cuts))

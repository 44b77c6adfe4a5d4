"""Calibration: fits that recover what made the sample, cuts that hold, intervals that cover."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import expit

from dedup_spark.commands.calibrate.calibration import (
    LabelledPairs,
    Logistic,
    choose_cut,
    first_half,
    fit_logistic,
    measured,
    operating_point,
    share_of,
    wilson_interval,
)


@pytest.mark.parametrize("seed", range(5))
def test_the_fit_recovers_the_model_that_made_the_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    features = np.column_stack([rng.uniform(-1, 1, 20_000), rng.uniform(0, 64, 20_000)])
    truth = expit(features @ [6.0, -0.15] + 2.0)
    model = fit_logistic(features, rng.random(20_000) < truth)
    assert model.weights == pytest.approx((6.0, -0.15), rel=0.1)
    assert np.abs(model.probability(features) - truth).max() < 0.03


def test_a_sample_that_one_feature_separates_has_a_finite_fit() -> None:
    features = np.r_[np.linspace(0, 0.3, 50), np.linspace(0.6, 1, 50)][:, None]
    model = fit_logistic(features, features[:, 0] > 0.5)
    assert np.isfinite([*model.weights, model.bias]).all()
    assert (np.diff(model.probability(features)) > 0).all()


def test_a_constant_feature_does_no_harm() -> None:
    rng = np.random.default_rng(1)
    x = rng.random(500)
    model = fit_logistic(np.column_stack([x, np.ones(500)]), rng.random(500) < x)
    assert np.isfinite(model.probability(np.array([[0.5, 1.0]]))).all()


def test_few_pairs_leave_a_known_model_nearly_as_it_is_and_many_replace_it() -> None:
    rng = np.random.default_rng(2)
    known, truth = Logistic((20.0,), -8.0), Logistic((30.0,), -18.0)
    x = rng.uniform(0, 1, (40_000, 1))
    is_copy = rng.random(40_000) < truth.probability(x)
    places = np.linspace(0, 1, 50)[:, None]
    few, many = (fit_logistic(x[:n], is_copy[:n], known, pull=5.0) for n in (5, 40_000))
    assert np.abs(few.probability(places) - known.probability(places)).max() < 0.15
    assert np.abs(many.probability(places) - truth.probability(places)).max() < 0.05


def test_pairs_of_one_kind_are_enough_beside_a_known_model() -> None:
    known = Logistic((20.0,), -8.0)
    fit = fit_logistic(np.full((50, 1), 0.9), np.ones(50, bool), known, pull=100.0)
    assert fit.probability(np.array([[0.9]]))[0] >= known.probability(np.array([[0.9]]))[0]
    assert fit.probability(np.array([[0.1]]))[0] < 0.1


def test_one_kind_of_pair_is_refused() -> None:
    with pytest.raises(ValueError, match="one kind only"):
        fit_logistic(np.ones((4, 1)), np.ones(4, bool))


def best_cut_by_force(score: np.ndarray, is_copy: np.ndarray, target: float) -> set[int]:
    """The pairs above the lowest of all possible cuts that reaches the precision."""
    for cut in np.unique(score):
        if is_copy[score >= cut].mean() >= target:
            return set(np.flatnonzero(score >= cut))
    return set()


@pytest.mark.parametrize("seed", range(30))
def test_the_cut_is_the_lowest_that_reaches_the_precision(seed: int) -> None:
    rng = np.random.default_rng(seed)
    score = rng.integers(0, 12, 60) / 12
    is_copy = rng.random(60) < score
    for target in (0.5, 0.8, 0.95, 1.0):
        cut = choose_cut(score, is_copy, target)
        assert set(np.flatnonzero(score >= cut)) == best_cut_by_force(score, is_copy, target)


def test_a_cut_that_nothing_reaches_lets_nothing_through() -> None:
    score = np.array([0.2, 0.9])
    assert choose_cut(score, np.zeros(2, bool), 0.9) == math.inf
    assert choose_cut(np.full(2, -np.inf), np.ones(2, bool), 0.9) == math.inf


def test_originals_that_were_not_proposed_stay_below_every_cut() -> None:
    score = np.array([-np.inf, -np.inf, 0.4])
    assert choose_cut(score, np.ones(3, bool), 0.99) == 0.4
    point = measured(LabelledPairs(np.arange(3), np.zeros(3, np.int64), np.ones(3, bool), score), 0.3)
    assert point.recall.value == pytest.approx(1 / 3)
    assert point.precision.value == 1


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(3)
    for share in (0.5, 0.9, 0.99, 0.999):
        seen = rng.binomial(200, share, 2000) / 200
        ends = [wilson_interval(s, 200) for s in seen]
        assert np.mean([low <= share <= high for low, high in ends]) > 0.92


def test_pairs_that_fall_together_are_counted_once() -> None:
    """100 images of 20 pairs each, all of an image's pairs alike: the interval must be that of 100 trials."""
    rng = np.random.default_rng(4)
    covered = []
    for _ in range(500):
        hits = np.repeat(rng.random(100) < 0.9, 20)
        share = share_of(hits, np.repeat(np.arange(100), 20))
        covered.append(share.low <= 0.9 <= share.high)
    assert share.n_images == 100
    assert np.mean(covered) > 0.92


def test_no_miss_in_a_small_sample_is_no_certainty() -> None:
    share = share_of(np.ones(50, bool), np.arange(50))
    assert share.value == 1
    assert share.low < 0.94
    assert share.high == 1


def test_nothing_measured_is_nothing_known() -> None:
    share = share_of(np.zeros(0, bool), np.zeros(0, np.int64))
    assert (share.low, share.high, share.n_images) == (0, 1, 0)


def sample(n_images: int, seed: int) -> LabelledPairs:
    """Ten copies per image near 0.7 and twenty negatives near 0.2, some images harder than others."""
    rng = np.random.default_rng(seed)
    hard = rng.normal(0, 0.08, n_images)
    image = np.repeat(np.arange(n_images) * 977, 30)
    is_copy = np.tile(np.r_[np.ones(10, bool), np.zeros(20, bool)], n_images)
    edit = np.tile(np.r_[np.arange(10), rng.integers(0, 10, 20)], n_images)
    score = np.where(is_copy, 0.7, 0.2) + np.repeat(hard, 30) + rng.normal(0, 0.12, len(image))
    return LabelledPairs(image, edit, is_copy, score)


def test_images_are_split_whole() -> None:
    fit, measure = sample(41, 1).halves()
    assert not set(fit.image) & set(measure.image)
    assert len(fit.image) + len(measure.image) == 41 * 30


def test_halves_are_about_equal_whatever_the_ids() -> None:
    for ids in (np.arange(2000), np.arange(2000) << 40, np.random.default_rng(1).integers(-(2**63), 2**63 - 1, 2000)):
        assert 850 < first_half(ids).sum() < 1150


def test_a_sample_without_negatives_keeps_the_lowest_cut_allowed() -> None:
    easy = LabelledPairs(np.arange(100), np.zeros(100, np.int64), np.ones(100, bool), np.linspace(0.1, 1, 100))
    assert operating_point(easy, 0.99, 0.5).cut == 0.5


def test_a_higher_precision_asked_for_costs_recall_and_is_met_on_other_images() -> None:
    points = [operating_point(sample(400, 5), target, 0.0) for target in (0.9, 0.99, 0.999)]
    assert [p.cut for p in points] == sorted(p.cut for p in points)
    assert [p.recall.value for p in points] == sorted((p.recall.value for p in points), reverse=True)
    for point, target in zip(points, (0.9, 0.99, 0.999), strict=True):
        assert point.precision.low <= target <= point.precision.high
        assert sorted(point.edit_recall) == list(range(10))

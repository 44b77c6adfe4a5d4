"""Probability: each piece of evidence moves it the right way, and the cut follows the precision asked for."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from dedup_spark.kernels.comparing import probability
from dedup_spark.kernels.comparing.verification import Verification

NAMES = tuple(f.name for f in fields(Verification) if f.name != "matrix")
USUAL = dict(zip(NAMES, (50, 0.9, 0, np.nan, 1, 5, 1, 0), strict=True))


def verification(**given: list[float]) -> Verification:
    n = len(next(iter(given.values())))
    return Verification(
        *(np.asarray(given.get(name, [USUAL[name]] * n), np.float32) for name in NAMES), np.zeros((n, 2, 3))
    )


def test_more_agreement_is_more_likely_a_copy() -> None:
    p = probability.posterior(np.full(5, 0.5), verification(agreement=[0.0, 0.2, 0.5, 0.8, 1.0]))
    assert (np.diff(p) > 0).all()
    assert p[0] < 0.2
    assert p[-1] > 0.99


def test_telling_blocks_that_differ_speak_against_a_copy_and_those_that_agree_do_not() -> None:
    p = probability.posterior(np.full(2, 0.5), verification(telling_share=[0.1, 0.1], telling_agreement=[0.0, 1.0]))
    assert p[0] < 0.2
    assert p[1] > 0.9


def test_differences_that_no_supporting_image_can_vote_on_count_more() -> None:
    alone, supported = probability.posterior(np.full(2, 0.5), verification(n_supporting=[0, 5], agreement=[0.7, 0.7]))
    assert alone < supported


def test_no_alignment_lowers_the_prior_less_where_there_was_nothing_to_align() -> None:
    p = probability.posterior(
        np.array([0.9, 0.9]), verification(n_inliers=[0, 0], agreement=[np.nan] * 2, comparable=[1, 0])
    )
    assert p[0] < p[1] < 0.5


def test_aligned_images_without_common_content_keep_their_prior() -> None:
    assert probability.posterior(np.array([0.8]), verification(agreement=[np.nan]))[0] == pytest.approx(0.8)


@pytest.mark.parametrize("model", probability.PRIORS.values(), ids=probability.PRIORS)
def test_the_prior_rises_with_the_cosine_and_with_what_stands_out(model: probability.Prior) -> None:
    cosine = np.linspace(0.15, 0.9, 30)
    assert (np.diff(probability.prior(model, cosine, np.full(30, 0.2))) > 0).all()
    assert (np.diff(probability.prior(model, np.full(30, 0.6), np.linspace(-0.2, 0.5, 30))) > 0).all()


def test_a_stricter_target_cuts_higher() -> None:
    cuts = [probability.cut_for(t) for t in (0.5, 0.9, 0.99, 0.999, 1.0)]
    assert cuts == sorted(cuts)
    assert cuts[0] == pytest.approx(0.5)
    assert 0.9 < cuts[2] < 0.99
    assert cuts[-1] < 1


@pytest.mark.parametrize(
    ("cosine", "normalised", "expected"), [(0.35, 0.1, 0.1278), (0.5, 0.2, 0.6735), (0.8, 0.5, 0.9876)]
)
def test_the_fitted_priors_do_not_change(cosine: float, normalised: float, expected: float) -> None:
    """Golden values: a change here means that probability.VERSION must be raised."""
    for model in probability.PRIORS.values():
        assert probability.prior(model, np.array([cosine]), np.array([normalised]))[0] == pytest.approx(
            expected, abs=1e-3
        )


def test_probabilities_of_another_length_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"n_inliers: expected float32 of shape \(m\), m = 3; found float32 of shape \(2,\)"
    ):
        probability.posterior(np.full(3, 0.5), verification(agreement=[0.5, 0.5]))


def test_thumbnails_are_asked_about_pairs_that_may_be_copies() -> None:
    pairs = [  # prior, cosine, dense, in doubt
        (0.5, 0.6, False, True),
        (0.009, 0.2, False, False),
        (0.009, 0.2, True, True),
        (0.999, 0.98, False, True),
        (0.9999, np.nan, False, False),  # only hashes
    ]
    columns = [np.array(column) for column in zip(*pairs, strict=True)]
    assert probability.in_doubt(*columns[:3]).tolist() == columns[3].tolist()


def test_a_layout_is_sure_where_cosine_and_phash_agree() -> None:
    cosine, bits = np.array([0.98, 0.98, 0.96, np.nan]), np.array([4, 5, 0, 0])
    assert probability.is_sure(cosine, bits).tolist() == [True, False, False, False]

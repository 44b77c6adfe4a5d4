"""Probability: each piece of evidence moves it the right way, and the cut follows the precision asked for."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from dedup_spark.kernels.clusters import probability
from dedup_spark.kernels.clusters.evidence import StarEvidence

NAMES = tuple(f.name for f in fields(StarEvidence))
USUAL = dict(zip(NAMES, (50, 0.9, 0, np.nan, 1, 5, 1), strict=True))


def star(**given: list[float]) -> StarEvidence:
    n = len(next(iter(given.values())))
    return StarEvidence(*(np.asarray(given.get(name, [USUAL[name]] * n), np.float32) for name in NAMES))


def test_more_agreement_is_more_likely_a_copy() -> None:
    p = probability.posterior(np.full(5, 0.5), star(agreement=[0.0, 0.2, 0.5, 0.8, 1.0]))
    assert (np.diff(p) > 0).all()
    assert p[0] < 0.2
    assert p[-1] > 0.99


def test_telling_blocks_that_differ_speak_against_a_copy_and_those_that_agree_do_not() -> None:
    p = probability.posterior(np.full(2, 0.5), star(telling_share=[0.1, 0.1], telling_agreement=[0.0, 1.0]))
    assert p[0] < 0.2
    assert p[1] > 0.9


def test_differences_that_nobody_witnessed_count_more() -> None:
    lonely, witnessed = probability.posterior(np.full(2, 0.5), star(n_mates=[0, 5], agreement=[0.7, 0.7]))
    assert lonely < witnessed


def test_no_alignment_lowers_the_prior_less_where_there_was_nothing_to_align() -> None:
    p = probability.posterior(np.array([0.9, 0.9]), star(n_inliers=[0, 0], agreement=[np.nan] * 2, comparable=[1, 0]))
    assert p[0] < p[1] < 0.5


def test_aligned_images_without_common_content_keep_their_prior() -> None:
    assert probability.posterior(np.array([0.8]), star(agreement=[np.nan]))[0] == pytest.approx(0.8)


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


def test_thumbnails_are_asked_about_pairs_that_may_be_copies_and_are_not_surely_so() -> None:
    pairs = [  # prior, cosine, bits, crowded, in doubt
        (0.5, 0.6, 20, False, True),
        (0.009, 0.2, 30, False, False),
        (0.009, 0.2, 30, True, True),
        (0.999, 0.98, 4, False, False),
        (0.999, 0.98, 5, False, True),
        (0.999, 0.96, 0, True, True),
        (0.9999, np.nan, 2, False, False),  # only hashes
    ]
    columns = [np.array(column) for column in zip(*pairs, strict=True)]
    assert probability.in_doubt(*columns[:4]).tolist() == columns[4].tolist()

"""Weighing: what differs in content lowers the probability, and nothing else of the comparison does."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest
from photos import Grey, page, photo, reencoded, with_sticker

from dedup_spark.kernels.comparing import probability, weighing
from dedup_spark.kernels.comparing.weighing import Scores, Thumbnail, Weighed


def thumbnail(grey: Grey) -> Thumbnail:
    return Thumbnail(cv2.imencode(".jpg", grey)[1].tobytes())


def weigh(query: Grey, candidates: Sequence[Grey], prior: float = 0.5, bits: int = 20, sure: bool = False) -> Weighed:
    m = len(candidates)
    scores = Scores(np.full(m, prior), np.full(m, bits), np.full(m, sure))
    return weighing.weigh(thumbnail(query), [thumbnail(c) for c in candidates], scores, list)


def scaled(grey: Grey, side_px: int) -> Grey:
    factor = side_px / max(grey.shape)
    return np.asarray(cv2.resize(grey, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), np.uint8)


CUT = probability.cut_for(0.999)


def test_pages_of_one_letterhead_are_apart_and_their_copies_together() -> None:
    for sure in (False, True):
        found = weigh(page(1), [reencoded(page(1), 40), page(2), page(3)], prior=0.99, bits=3, sure=sure)
        assert found.copy_probability[0] > CUT
        assert found.copy_probability[1:].max() < 0.5
        assert found.is_conclusive.all()


def test_a_sure_pair_needs_no_keypoints() -> None:
    found = weigh(photo(1), [reencoded(photo(1), 50)], prior=0.99, bits=0, sure=True)
    assert found.n_inliers.tolist() == [0]
    assert found.agreement[0] > 0.95
    assert found.copy_probability[0] > CUT


@pytest.mark.parametrize("side_px", [32, 64])
def test_a_tiny_copy_of_a_photo_is_found_whatever_its_cosine(side_px: int) -> None:
    found = weigh(photo(2), [scaled(photo(2), side_px), scaled(photo(0), side_px)], prior=0.05, bits=0)
    assert found.copy_probability[0] > probability.cut_for(0.99)
    assert found.copy_probability[1] < 0.5


def test_pages_too_small_to_be_read_stay_below_the_cut_unless_all_agrees() -> None:
    tiny = scaled(page(1), 64)
    apart = weigh(page(1), [tiny], prior=0.8, bits=6).copy_probability[0]
    agreed = weigh(page(1), [tiny], prior=0.99, bits=2).copy_probability[0]
    assert apart < probability.cut_for(0.99) < agreed


def test_equal_hashes_and_no_difference_outweigh_blocks_that_noise_made_disagree() -> None:
    logo = np.full((256, 256), 250, np.uint8)
    cv2.circle(logo, (90, 128), 50, 40, -1)
    for k, text in enumerate(("FABLE", "books")):
        cv2.putText(logo, text, (40, 60 + 150 * k), cv2.FONT_HERSHEY_DUPLEX, 1.6 - 0.5 * k, 90, 2)
    other = cv2.putText(logo.copy(), "and more", (150, 130), cv2.FONT_HERSHEY_DUPLEX, 0.8, 60, 2)
    found = weigh(logo, [reencoded(logo, 15), np.asarray(other, np.uint8)], prior=0.97, bits=0)
    assert found.differences.template[0] == 0
    assert found.copy_probability[0] > CUT
    equal = weighing._is_equal(Scores(np.full(2, 0.97), np.array([0, 4]), np.zeros(2, bool)), found.differences)
    assert equal.tolist() == [True, False]


def test_gradients_are_compared_though_they_have_no_keypoints() -> None:
    y, x = np.mgrid[0:192, 0:256]
    ramp, other = (np.asarray(v, np.uint8) for v in (x, y))
    found = weigh(ramp, [reencoded(ramp, 60), other], prior=0.99, bits=2)
    assert found.copy_probability[0] > probability.cut_for(0.99) > found.copy_probability[1]


def test_a_sticker_on_a_photo_is_no_exchanged_content() -> None:
    found = weigh(photo(3), [with_sticker(photo(3), seed) for seed in range(6)])
    assert found.copy_probability.min() > 0.9


def test_without_candidates_there_is_nothing_to_weigh() -> None:
    assert weigh(photo(0), []).copy_probability.shape == (0,)


def test_scores_of_another_length_are_refused() -> None:
    scores = Scores(np.full(2, 0.5), np.full(2, 20), np.full(3, False))
    with pytest.raises(ValueError, match="is_sure"):
        weighing.weigh(thumbnail(photo(0)), [thumbnail(photo(1))] * 2, scores, list)

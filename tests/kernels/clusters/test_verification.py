"""Verification: supporting images tell different pictures in one frame from copies under an overlay."""

from __future__ import annotations

import numpy as np
from photos import cropped, framed, photo, reencoded, rotated, with_sticker

from dedup_spark.kernels.clusters import probability, verification
from dedup_spark.kernels.clusters.geometry import Described, describe_grey


def weigh(query: Described, candidates: list[Described], neighbours: list[Described] | None = None) -> np.ndarray:
    found = verification.verify_candidates(query, candidates, lambda: neighbours or [])
    return probability.posterior(np.full(len(candidates), 0.5), found)


def test_different_pictures_in_one_frame_are_told_apart_and_a_photo_is_found_in_its_frame() -> None:
    frames = [describe_grey(framed(photo(i))) for i in range(9)]
    found = verification.verify_candidates(frames[0], [*frames[1:], describe_grey(photo(0))], list)
    assert (found.n_inliers[:8] >= 20).all(), "the frame aligns"
    assert (found.agreement[:8] > 0.6).all(), "and most of the screen agrees"
    p = probability.posterior(np.full(9, 0.5), found)
    assert p[:8].max() < 0.2
    assert p[8] > 0.9


def test_a_copy_in_the_same_frame_is_found_among_other_pictures_in_it() -> None:
    frames = [describe_grey(framed(photo(i))) for i in range(8)]
    same = describe_grey(framed(reencoded(photo(0), 30)))
    p = weigh(frames[0], [*frames[1:], same])
    assert p[-1] > 0.9
    assert p[:-1].max() < probability.cut_for(0.99)


def test_stickers_on_copies_do_not_part_them() -> None:
    stickered = [describe_grey(with_sticker(photo(3), seed)) for seed in range(8)]
    assert weigh(stickered[0], stickered[1:]).min() > 0.9


def test_neighbours_are_compared_only_where_too_few_candidates_support_a_pair() -> None:
    a, b = (describe_grey(framed(photo(i))) for i in (0, 1))
    neighbours = [describe_grey(framed(photo(i))) for i in range(2, 8)]
    assert weigh(a, [b])[0] > weigh(a, [b], neighbours)[0]

    def not_needed() -> list[Described]:
        raise AssertionError("asked for")

    verification.verify_candidates(describe_grey(photo(0)), [describe_grey(reencoded(photo(0), 70))], not_needed)


def test_edits_of_one_photo_are_copies_and_other_photos_are_not() -> None:
    original = photo(2)
    copies = [reencoded(original, 25), rotated(original, 20), cropped(original, 0.7), original[:, ::-1].copy()]
    p = weigh(describe_grey(original), [describe_grey(g) for g in [*copies, photo(0), photo(1), photo(5)]])
    assert p[:4].min() > 0.95
    assert p[4:].max() < 0.2


def test_images_without_texture_need_more_than_a_fair_prior() -> None:
    plain = describe_grey(np.full((192, 256), 200, np.uint8))
    found = verification.verify_candidates(plain, [plain, describe_grey(photo(0))], list)
    fair, high = probability.posterior(np.array([0.9, 0.9]), found), probability.posterior(np.full(2, 0.9995), found)
    assert fair.max() < 0.5
    assert high.min() > probability.cut_for(0.99)


def test_the_order_of_the_images_does_not_matter() -> None:
    frames = [describe_grey(framed(photo(i))) for i in range(6)]
    forward, backward = weigh(frames[0], frames[1:]), weigh(frames[0], frames[:0:-1])
    assert np.allclose(forward, backward[::-1])

"""Verification: supporting images tell different pictures in one frame from copies under an overlay."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
from photos import cropped, framed, photo, reencoded, rotated, with_sticker

from dedup_spark.kernels.comparing import geometry, probability, verification
from dedup_spark.kernels.comparing.geometry import Described, describe_grey


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


def test_companions_vote_as_candidates_do_and_are_asked_for_only_where_something_aligned_differs() -> None:
    frames = [describe_grey(framed(photo(i))) for i in range(6)]
    everyone = verification.verify_candidates(frames[0], frames[1:], list)
    for k in range(1, 6):
        others = [frame for i, frame in enumerate(frames) if i not in (0, k)]
        alone = verification.verify_candidates(frames[0], [frames[k]], list, lambda others=others: others)
        for field in fields(alone):
            of_one, of_all = getattr(alone, field.name), getattr(everyone, field.name)
            assert len(of_one) == 1
            assert np.array_equal(of_one[0], of_all[k - 1], equal_nan=True), field.name

    def not_needed() -> list[Described]:
        raise AssertionError("asked for")

    others = [describe_grey(photo(1)), describe_grey(reencoded(photo(0), 70))]
    found = verification.verify_candidates(describe_grey(photo(0)), others, not_needed, companions=not_needed)
    assert found.n_inliers[0] == 0
    assert found.agreement[1] == 1


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


def textures(rows: list[list[int]], seed: int = 0) -> np.ndarray:
    """(blocks, images, BLOCK_PX^2) from an image per row: blocks with one number show the same, 0 is plain."""
    patterns = np.random.default_rng(seed).normal(0, 20, (1 + max(map(max, rows)), geometry.BLOCK_PX**2))
    patterns[0] = 0
    patterns -= patterns.mean(axis=1, keepdims=True)
    return patterns[np.array(rows).T].astype(np.float32)


def measured(rows: list[list[int]], n_candidates: int = 1) -> verification.Verification:
    """Of images that all cover the query image, the first."""
    blocks = textures(rows)
    aligned = verification._AlignedImages(describe_grey(np.zeros((16, 16 * len(rows[0])), np.uint8)))
    aligned.blocks = list(blocks.swapaxes(0, 1))
    aligned.covered = [np.ones(len(rows[0]), bool) for _ in rows]
    aligned.row = list(range(1, len(rows)))
    aligned.n_inliers, aligned.comparable = [9] * len(aligned.row), [True] * len(aligned.row)
    aligned.matrix = [np.eye(2, 3)] * len(aligned.row)
    return verification._measure(aligned, n_candidates)


def test_blocks_agree_where_they_correlate_or_are_both_plain_and_count_where_one_has_texture() -> None:
    blocks = textures([[1, 1, 0, 0, 2], [1, 2, 0, 3, 2]])
    blocks[4, 1] *= -1  # a negative
    covered = np.array([[True, True], [True, True], [True, True], [True, True], [True, True]])
    agree, counted = verification._compare(blocks, covered)
    assert agree[:, 0, 1].tolist() == [True, False, True, False, False]
    assert counted[:, 0, 1].tolist() == [True, True, False, True, True]
    agree, counted = verification._compare(blocks, covered & np.array([True, False]))
    assert not agree[:, 0, 1].any(), "what one image does not cover is not compared"
    assert not counted[:, 0, 1].any()
    faint = textures([[1, 1], [2, 1]]) / 10  # of two grey levels: no texture
    agree, counted = verification._compare(faint, np.ones((2, 2), bool))
    assert agree.all()
    assert not counted.any()


def test_an_image_supports_a_pair_that_it_shares_three_tenths_with() -> None:
    frame, inner = [1, 2, 3], [[10 + 10 * i + k for k in range(7)] for i in range(6)]
    two = [frame + inner[0], frame + inner[1]]
    supporting, other = frame + inner[2], [1, 2, 99, *inner[3]]
    assert measured([*two, supporting, supporting]).n_supporting[0] == 2
    assert measured([*two, supporting, other]).n_supporting[0] == 1
    half = [1, 2, 3, 91, 92, 93, 94, *inner[1][4:]]  # agrees with the candidate on six tenths, with the query on three
    assert measured([*two, half, half, other]).n_supporting[0] == 2
    of_candidate_only = [91, 92, 93, *inner[1]]
    assert measured([*two, of_candidate_only, of_candidate_only]).n_supporting[0] == 0


def test_with_fewer_than_six_textured_blocks_in_common_an_agreement_is_unknown() -> None:
    assert np.isnan(measured([[1, 2, 3, 4, 5, 0], [1, 2, 3, 4, 5, 0]]).agreement[0])
    assert measured([[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 9]]).agreement[0] == np.float32(5 / 6)


def test_three_blocks_that_no_supporting_image_shows_decide_and_two_do_not() -> None:
    """Seven blocks of a frame, then the inner blocks, which are different in every image."""
    frame = [1, 2, 3, 4, 5, 6, 7]
    for n_inner, decide in ((2, False), (3, True), (4, True)):
        rows = [frame + [100 * i + k for k in range(n_inner)] for i in range(1, 7)]
        found = measured(rows)
        assert found.telling_share[0] == np.float32(n_inner / (7 + n_inner))
        assert found.telling_agreement[0] == 0 if decide else np.isnan(found.telling_agreement[0])
    same = [frame + [101, 102, 103], *[frame + [100 * i + k for k in range(3)] for i in range(2, 7)]]
    same[1] = same[0]
    assert measured(same).telling_agreement[0] == 1, "a copy agrees on what no other image shows"


def test_a_block_is_telling_while_two_fifths_of_the_supporting_images_show_it() -> None:
    frame = [1, 2, 3, 4, 5, 6, 7]

    def share(n_showing: int) -> float:
        """One more block, in which the query image and so many of five supporting images show the same."""
        others = [[*frame, 50 if i < n_showing else 60 + i] for i in range(5)]
        return float(measured([[*frame, 50], [*frame, 51], *others]).telling_share[0])

    assert share(0) == share(2) == 1 / 8
    assert share(3) == 0


def test_where_the_supporting_images_agree_with_each_other_a_block_is_not_telling() -> None:
    """They show what the frame holds there; the two images have something over it, each its own."""
    frame = [1, 2, 3, 4, 5, 6, 7]
    rows = [[*frame, 50], [*frame, 51], *[[*frame, 52]] * 4]
    assert measured(rows).telling_share[0] == 0


def test_neighbours_are_compared_where_a_pair_has_fewer_than_five_supporting_images() -> None:
    frames = [describe_grey(framed(photo(i))) for i in range(7)]
    asked: list[int] = []

    def neighbours() -> list[Described]:
        asked.append(1)
        return []

    found = verification.verify_candidates(frames[0], frames[1:], neighbours)
    assert set(found.n_supporting.tolist()) == {5}
    assert not asked
    verification.verify_candidates(frames[0], frames[1:6], neighbours)
    assert asked


def test_an_image_with_thirty_keypoints_can_be_compared_and_one_with_fewer_cannot() -> None:
    query = describe_grey(photo(0))
    few = [
        replace(query, points=query.points[:n], frames=query.frames[:n], descriptors=query.descriptors[:n])
        for n in (29, 30)
    ]
    assert verification.verify_candidates(query, few, list).comparable.tolist() == [0, 1]


def test_blocks_in_which_one_of_the_two_is_alone_are_explained_by_an_overlay() -> None:
    others = [[1, 1, 1, 1, 1, 1, 1, 1]] * 4
    overlay = measured([[1, 1, 1, 1, 1, 1, 1, 2], [1, 1, 1, 1, 1, 1, 1, 1], *others])
    assert overlay.explained.tolist() == [1]
    template = measured([[1, 1, 1, 1, 1, 1, 1, 2], [1, 1, 1, 1, 1, 1, 1, 1], *others[:2], [1, 1, 1, 1, 1, 1, 1, 2],
                         [1, 1, 1, 1, 1, 1, 1, 3]])  # fmt: skip
    assert template.explained.tolist() == [0]

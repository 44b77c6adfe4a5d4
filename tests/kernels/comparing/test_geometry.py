"""Geometry: planted edits are aligned, different pictures are not, and the map found is the one that was applied."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from photos import cropped, framed, photo, reencoded, rotated, squashed

from dedup_spark.kernels.comparing import geometry

EDITS = {
    "mirrored": lambda p: p[:, ::-1].copy(),
    "upside down": lambda p: p[::-1].copy(),
    "rotated": lambda p: rotated(p, 25),
    "squashed": squashed,
    "cropped to a quarter": lambda p: cropped(p, 0.5),
    "re-encoded": lambda p: reencoded(p, 20),
    "negative exposure": lambda p: (p * 0.6 + 20).astype(np.uint8),
    "in a frame": framed,
}


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_copy_is_aligned_with_its_original(edit: str, number: int) -> None:
    original, copy = (geometry.describe_grey(g) for g in (photo(number), EDITS[edit](photo(number))))
    assert geometry.align(original, copy).n_inliers >= 10
    assert geometry.align(copy, original).n_inliers >= 10


def test_different_pictures_are_not_aligned() -> None:
    described = [geometry.describe_grey(photo(i)) for i in range(11)]
    found = [geometry.align(a, b).n_inliers for i, a in enumerate(described) for b in described[:i]]
    assert max(found) < 10


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_map_is_the_one_that_was_applied(mirrored: bool) -> None:
    original = photo(0)
    h, w = original.shape
    linear = np.array([[0.8, 0.2], [-0.15, 0.7]]) @ np.diag([-1.0 if mirrored else 1.0, 1.0])
    centre = np.array([w / 2, h / 2])
    planted = np.column_stack([linear, centre - linear @ centre])
    copy = cv2.warpAffine(original, planted, (w, h))
    found = geometry.align(geometry.describe_grey(original), geometry.describe_grey(np.asarray(copy, np.uint8)))
    assert found.matrix is not None
    corners = np.array([[20, 20, 1], [w - 20, 20, 1], [20, h - 20, 1], [w - 20, h - 20, 1]], float)
    assert np.abs(corners @ found.matrix.T - corners @ planted.T).max() < 1.5


def test_two_runs_find_the_same_map() -> None:
    a, b = geometry.describe_grey(photo(1)), geometry.describe_grey(rotated(photo(1), 10))
    first, second = geometry.align(a, b), geometry.align(a, b)
    assert first.matrix is not None
    assert second.matrix is not None
    assert np.array_equal(first.matrix, second.matrix)


def test_an_overlay_shows_the_centre_again() -> None:
    a, b = geometry.describe_grey(photo(2)), geometry.describe_grey(rotated(photo(2), 15))
    matrix = geometry.align(a, b).matrix
    assert matrix is not None
    blocks, covered = geometry.overlay(a, b, matrix)
    own = geometry.centred_blocks(a.grey)
    textured = covered & (np.linalg.norm(own, axis=1) > 10 * geometry.BLOCK_PX)
    correlation = (own * blocks).sum(1) / (np.linalg.norm(own, axis=1) * np.linalg.norm(blocks, axis=1) + 1e-3)
    assert textured.sum() > 30
    assert np.median(correlation[textured]) > 0.9


def test_a_plain_image_has_no_keypoints_and_fits_nothing() -> None:
    plain = geometry.describe_grey(np.full((200, 256), 128, np.uint8))
    assert len(plain.points) == 0
    assert geometry.align(plain, geometry.describe_grey(photo(0))) == geometry.Alignment(0, None)


@pytest.mark.parametrize("shape", [(5, 256), (256, 5), (16, 16), (100, 31)])
def test_blocks_of_any_shape_are_cut(shape: tuple[int, int]) -> None:
    blocks = geometry.cut_blocks(np.zeros(shape, np.float32))
    assert blocks.shape == (max(1, shape[0] // 16) * max(1, shape[1] // 16), 256)


def test_a_match_must_be_clearer_than_the_second_best_by_lowes_ratio() -> None:
    """Of distances 0.8, so of their squares 0.64: 0.1 to 0.16 passes, 0.1 to 0.15 does not."""
    cosines = np.array([[0.9, 0.84, 0.0], [0.9, 0.85, 0.0], [0.2, 0.0, 0.95]], np.float32)
    i, j = geometry._matches(cosines)
    assert i.tolist() == [2, 0], "the most distinct first"
    assert j.tolist() == [2, 0]


@pytest.mark.parametrize(
    ("wide", "narrow", "expected"),
    [
        (1.0, 0.34, True),
        (1.0, 0.33, False),
        (0.09, 0.09, True),
        (0.083, 0.083, False),
        (11.9, 11.9, True),
        (12.1, 12.1, False),
    ],
)
def test_maps_that_no_edit_makes_are_refused(wide: float, narrow: float, expected: bool) -> None:
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    matrix = np.hstack([turn @ np.diag([wide, narrow]), np.array([[5.0], [7.0]])])
    assert geometry._plausible(matrix) == expected


def test_a_plane_smaller_than_a_block_is_filled_up_by_its_edge() -> None:
    plane = np.arange(5 * 16, dtype=np.float32).reshape(5, 16)
    block = geometry.cut_blocks(plane).reshape(16, 16)
    assert np.array_equal(block[:5], plane)
    assert (block[5:] == plane[4]).all()


def test_planes_and_maps_of_another_shape_or_dtype_are_refused() -> None:
    described = geometry.describe_grey(photo(0))
    with pytest.raises(ValueError, match=r"grey: expected uint8 of shape \(h, w\); found float64 of shape \(9, 9\)"):
        geometry.describe_grey(np.zeros((9, 9)))  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match=r"matrix: expected float64 of shape \(2, 3\); found float64 of shape \(3, 3\)"
    ):
        geometry.overlay(described, described, np.eye(3))

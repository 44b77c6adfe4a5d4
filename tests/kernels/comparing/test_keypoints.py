"""Keypoints: OpenCV's own, the same in either way of finding them, and the same again out of their bytes."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from photos import Grey, photo

from dedup_spark.kernels.comparing import keypoints
from dedup_spark.kernels.comparing.keypoints import Keypoints, find_keypoints

TEXTURES = {
    "photo": photo(1),
    "noise": np.random.default_rng(1).integers(0, 256, (160, 256), np.uint8),
    "spots": np.asarray(cv2.GaussianBlur(photo(2), (0, 0), 4), np.uint8),
    "one blob": np.asarray(cv2.circle(np.zeros((200, 256), np.uint8), (128, 100), 60, 255, -1), np.uint8),
    "plain": np.full((64, 64), 90, np.uint8),
}


def parts_of(found: Keypoints) -> list[np.ndarray]:
    return [found.points, found.frames, found.descriptors]


@pytest.mark.parametrize("texture", TEXTURES)
def test_what_is_taken_for_rich_is_described_alike(texture: str) -> None:
    one, other = (find_keypoints(TEXTURES[texture], is_rich=is_rich) for is_rich in (False, True))
    assert all(np.array_equal(a, b) for a, b in zip(parts_of(one), parts_of(other), strict=True))


def test_descriptors_and_places_are_those_of_opencv() -> None:
    sift = cv2.SIFT_create(contrastThreshold=0.02, edgeThreshold=15)  # type: ignore[attr-defined]
    expected, descriptors = sift.detectAndCompute(photo(3), None)
    found = find_keypoints(photo(3))
    assert 100 < len(expected) <= 500, "none of them is left out"
    assert np.array_equal(found.descriptors, descriptors)
    assert np.array_equal(found.points, np.array([k.pt for k in expected], np.float32))
    size = np.linalg.norm(found.frames, axis=1)
    assert np.allclose(size, [k.size for k in expected])
    turned = np.rad2deg(np.arctan2(found.frames[:, 1], found.frames[:, 0])) % 360
    assert np.allclose(turned, [k.angle % 360 for k in expected], atol=0.01)


def test_of_too_many_keypoints_each_place_keeps_its_strongest() -> None:
    noise = cv2.GaussianBlur(np.random.default_rng(2).integers(0, 256, (256, 256), np.uint8), (0, 0), 1.2)
    noise[:, 128:] = 100 + (noise[:, 128:].astype(int) - 128) // 3  # a pale half beside one full of contrast
    sift = cv2.SIFT_create(contrastThreshold=0.02, edgeThreshold=15)  # type: ignore[attr-defined]
    everything = sift.detect(noise, None)
    kept = {tuple(point) for point in find_keypoints(noise).points.tolist()}
    assert len(everything) > 700
    for cell in range(64):
        inside = [k for k in everything if int(k.pt[0] * 8 / 256) + 8 * int(k.pt[1] * 8 / 256) == cell]
        weakest = min((k.response for k in inside if k.pt in kept), default=1)
        assert weakest >= max((k.response for k in inside if k.pt not in kept), default=0)
    pale = [point for point in find_keypoints(noise).points if point[0] > 132]
    assert len(find_keypoints(noise).points) == 500
    assert len(pale) > 200
    strongest = sorted(everything, key=lambda k: -k.response)[:500]
    assert sum(k.pt[0] > 132 for k in strongest) < 50, "else the test shows nothing"


@pytest.mark.parametrize("grey", TEXTURES.values(), ids=TEXTURES)
def test_bytes_hold_keypoints_exactly(grey: Grey) -> None:
    found = find_keypoints(grey)
    packed = keypoints.pack(found)
    assert len(packed) == 144 * len(found.points)
    again = keypoints.unpack(packed)
    for one, other in zip(parts_of(found), parts_of(again), strict=True):
        assert one.dtype == other.dtype
        assert np.array_equal(one, other)


def test_bytes_that_are_no_keypoints_are_refused() -> None:
    with pytest.raises(ValueError, match="145 bytes are no keypoints"):
        keypoints.unpack(b"x" * 145)

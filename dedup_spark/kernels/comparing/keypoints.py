"""Keypoints of a thumbnail (SIFT: Lowe 2004), as arrays and as bytes.

To find and describe them takes 10 to 40 ms, some ten times as long as to compare two thumbnails by them. So that is
done once for each image of a run, and what is found travels as bytes, 144 for each keypoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from dedup_spark.kernels.arrays import Float32, UInt8, expect

_MAX_KEYPOINTS = 500
_DOUBLED_OCTAVE = 0xFF
"""-1, in the lowest byte of what OpenCV calls the octave."""
_GRID = 8
_DESCRIPTOR = 128
_PLACE_BYTES = 4 * 4
"""Of `points` and `frames`, of one keypoint."""


@dataclass(frozen=True, slots=True)
class Keypoints:
    """`points` (k, 2) float32 x, y; `frames` (k, 2) float32 the keypoint's direction times its size, pixels;
    `descriptors` (k, 128) uint8, SIFT's own."""

    points: Float32
    frames: Float32
    descriptors: UInt8


def find_keypoints(grey: UInt8, *, is_rich: bool = False) -> Keypoints:
    """Of (h, w) grey levels, at most _MAX_KEYPOINTS; about 20 ms at 256 px on one core.

    Whether it `is_rich`, with far more than _MAX_KEYPOINTS, decides about the time alone.
    """
    expect(grey=(grey, "h w", np.uint8))
    keypoints, descriptors = _kept_of_rich(grey) if is_rich else _kept_of_usual(grey)
    if descriptors is None or not len(keypoints):
        return unpack(b"")
    angle = np.deg2rad(np.array([k.angle for k in keypoints], np.float32))
    size = np.array([k.size for k in keypoints], np.float32)
    frames = np.stack([np.cos(angle), np.sin(angle)], axis=1) * size[:, None]
    return Keypoints(np.array([k.pt for k in keypoints], np.float32), frames.astype(np.float32), descriptors)


def pack(found: Keypoints) -> bytes:
    """Exactly, to 144 bytes for each keypoint."""
    places = [part.astype("<f4").tobytes() for part in (found.points, found.frames)]
    return b"".join([*places, found.descriptors.tobytes()])


def unpack(packed: bytes) -> Keypoints:
    """What `pack` was given. Raises ValueError for another number of bytes."""
    k, rest = divmod(len(packed), _PLACE_BYTES + _DESCRIPTOR)
    if rest:
        raise ValueError(f"{len(packed)} bytes are no keypoints of {_PLACE_BYTES + _DESCRIPTOR} bytes each")
    points, frames = np.frombuffer(packed, "<f4", 4 * k).reshape(2, k, 2)
    descriptors = np.frombuffer(packed, np.uint8, offset=_PLACE_BYTES * k).reshape(k, _DESCRIPTOR)
    return Keypoints(points, frames, descriptors)


type _Kept = tuple[Sequence[cv2.KeyPoint], UInt8 | None]
"""Keypoints, and their descriptors (k, 128)."""


def _sift() -> Any:
    """OpenCV's defaults but for the thresholds; the descriptors are whole numbers in either type."""
    return cv2.SIFT_create(  # type: ignore[attr-defined]
        nfeatures=0, nOctaveLayers=3, contrastThreshold=0.02, edgeThreshold=15, sigma=1.6, descriptorType=cv2.CV_8U
    )


def _kept_of_rich(grey: UInt8) -> _Kept:
    """Descriptors of those that are kept alone, for which OpenCV scales the picture a second time."""
    sift = _sift()
    found = sift.detect(grey, None)
    if not found:
        return (), None
    keypoints, descriptors = sift.compute(grey, [found[i] for i in _spread(found, grey.shape)])
    return keypoints, descriptors


def _kept_of_usual(grey: UInt8) -> _Kept:
    """Descriptors of all, in one go. OpenCV describes keypoints without one of the doubled picture by another one."""
    found, descriptors = _sift().detectAndCompute(grey, None)
    if not found:
        return (), None
    kept = _spread(found, grey.shape)
    if not any(found[i].octave & 0xFF == _DOUBLED_OCTAVE for i in kept):
        return _kept_of_rich(grey)
    return [found[i] for i in kept], descriptors[kept]


def _spread(keypoints: Sequence[cv2.KeyPoint], shape: tuple[int, ...]) -> list[int]:
    """Which are kept: the strongest keypoint of each cell of a grid, then the second of each, and so on.

    Without that, a screen full of text would take all places from the photo in its middle.
    """
    if len(keypoints) <= _MAX_KEYPOINTS:
        return list(range(len(keypoints)))
    points = np.array([k.pt for k in keypoints])
    cell = (points * _GRID / np.array(shape[1::-1])).astype(int) @ np.array([1, _GRID])
    order = np.lexsort((-np.array([k.response for k in keypoints]), cell))
    sorted_cell = cell[order]
    rank = np.arange(len(order)) - np.searchsorted(sorted_cell, sorted_cell)
    kept: list[int] = order[np.argsort(rank, kind="stable")[:_MAX_KEYPOINTS]].tolist()
    return kept

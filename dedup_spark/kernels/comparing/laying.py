"""Two aligned thumbnails in one frame, as exactly and as sharp as each other, so that their levels can be compared.

That is the frame of the one that shows less detail. The affine map is refined by Lucas and Kanade's method (IJCAI 1981)
on locally normalised grey levels, so that brightness and contrast do not matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from dedup_spark.kernels.arrays import Bools, Float32, Float64, Int64, UInt8, expect

_LEAST_SIDE_PX = 128
"""Smaller frames are magnified, so that they have windows enough."""
_NOISE = 4.0
"""Grey levels added to local contrast, so that the noise of a plain ground is not blown up to structure."""
_STEPS, _STILL = 5, 0.02
"""At most so many steps; less than so many pixels at the edge ends them."""
_ROBUST, _OUTSIDE, _MIN_SEEN = 0.4, 9.0, 100
"""In units of local contrast: what does not fit by more counts little; what lies outside; pixels that must be seen."""


@dataclass(frozen=True, slots=True)
class Levels:
    """A picture: `grey` (h, w) uint8, and `local` (h // 2, w // 2) float32, its locally normalised levels in half size,
    by which it is aligned."""

    grey: UInt8
    local: Float32


@dataclass(frozen=True, slots=True)
class Laid:
    """Two thumbnails in one frame: (h, w) float32 grey levels, (h, w) bool where both show something, and the map from
    a to b that was used."""

    a: Float32
    b: Float32
    common: Bools
    matrix: Float64


def levels_of(grey: UInt8) -> Levels:
    """Of (h, w) grey levels; 0.2 ms at 256 px on one core, once for all pairs of a picture."""
    expect(grey=(grey, "h w", np.uint8))
    return Levels(grey, normalised(_halved(grey)))


def lay(a: Levels, b: Levels, matrix: Float64) -> Laid:
    """Both in the frame of the one that shows the common content smaller; `matrix` takes points of a to b."""
    expect(matrix=(matrix, "2 3", np.float64))
    if abs(np.linalg.det(matrix[:, :2])) < 1.0:
        turned = lay(b, a, cv2.invertAffineTransform(matrix).astype(np.float64))
        return Laid(turned.b, turned.a, turned.common, cv2.invertAffineTransform(turned.matrix).astype(np.float64))
    frame, magnify = _magnified(a)
    softened = _softened(b.grey, matrix)
    refined_matrix = refined(frame, b if softened is b.grey else levels_of(softened), matrix @ magnify)
    warped, common = _warped(b.grey, refined_matrix, frame.grey.shape)
    sharp = _equally_sharp(frame.grey.astype(np.float32), warped, common)
    return Laid(*sharp, common, refined_matrix @ np.linalg.inv(magnify))


def _magnified(frame: Levels) -> tuple[Levels, Float64]:
    """The frame with at least _LEAST_SIDE_PX, and the (3, 3) map from its points to those of the frame given."""
    small = frame.grey.shape
    factor = max(_LEAST_SIDE_PX / max(small), 1.0)
    if factor == 1.0:
        return frame, np.eye(3)
    shape = tuple(max(1, round(s * factor)) for s in small)
    large = cv2.resize(frame.grey, shape[::-1], interpolation=cv2.INTER_CUBIC)
    return levels_of(np.asarray(large, np.uint8)), np.vstack([whole_to_whole(shape, small, (1, 1)), (0, 0, 1)])


def _softened(image: UInt8, matrix: Float64) -> UInt8:
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 0.5 * scale), np.uint8) if scale > 1.2 else image


def _warped(image: UInt8, matrix: Float64, shape: tuple[int, ...]) -> tuple[Float32, Bools]:
    h, w = shape
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    source = _softened(image, matrix).astype(np.float32)
    warped = cv2.warpAffine(source, matrix, (w, h), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    inside = cv2.warpAffine(np.ones_like(source), matrix, (w, h), flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP)
    return np.asarray(warped, np.float32), np.asarray(inside > 0.5)


def refined(frame: Levels, image: Levels, matrix: Float64) -> Float64:
    """`matrix`, from points of the frame to the image, moved so that their locally normalised levels fit best in half
    size. What does not fit, such as another content, counts little."""
    small, other = frame.local, image.local
    down = np.vstack([whole_to_whole(image.grey.shape, other.shape, (1, 1)), (0, 0, 1)])
    up = np.vstack([whole_to_whole(small.shape, frame.grey.shape, (1, 1)), (0, 0, 1)])
    found = _moved(small, other, (down @ np.vstack([matrix, (0, 0, 1)]) @ up)[:2])
    return np.asarray((np.linalg.inv(down) @ np.vstack([found, (0, 0, 1)]) @ np.linalg.inv(up))[:2], np.float64)


def _halved(image: UInt8) -> Float32:
    half = cv2.resize(image, [max(1, s // 2) for s in image.shape[::-1]], interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(half.astype(np.float32), (0, 0), 0.8), np.float32)


def _moved(levels: Float32, other: Float32, matrix: Float64) -> Float64:
    """The best of _STEPS steps of Lucas and Kanade's method, inverse compositional (Baker and Matthews, IJCV 2004)."""
    h, w = levels.shape
    x, y = np.meshgrid((np.arange(w, dtype=np.float32) - w / 2) / w, (np.arange(h, dtype=np.float32) - h / 2) / w)
    gx, gy = (cv2.Sobel(levels, cv2.CV_32F, *d, ksize=3, scale=1 / 8) for d in ((1, 0), (0, 1)))
    steepest = np.stack([gx * x, gx * y, gx, gy * x, gy * y, gy]).reshape(6, -1).astype(np.float32)
    best, least, found = matrix, np.inf, matrix
    for steps_left in reversed(range(_STEPS)):
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        warped = cv2.warpAffine(other, found, (w, h), flags=flags, borderValue=_OUTSIDE)
        seen, error = warped.ravel() < _OUTSIDE / 2, (warped - levels).ravel()
        places = np.flatnonzero(seen)
        if len(places) < _MIN_SEEN:
            break
        if (mean := float(np.minimum(np.abs(_at(error, places)), 1.0).mean())) < least:
            best, least = found, mean
        if not steps_left:
            break
        weighted = steepest * np.where(seen, 1 / (1 + (error / _ROBUST) ** 2), 0.0).astype(np.float32)
        hessian = (weighted @ steepest.T).astype(np.float64) + 1e-3 * np.eye(6)
        step = np.linalg.solve(hessian, (weighted @ error).astype(np.float64))
        found = (np.vstack([found, (0, 0, 1)]) @ np.linalg.inv(_move(step, h, w)))[:2]
        if np.abs(step).max() < _STILL:
            break
    return best


def _at(levels: np.ndarray[Any, Any], places: Int64) -> np.ndarray[Any, Any]:
    """Levels (n,) at ascending places, which are quicker to follow than a mask, and often all there are."""
    return levels if len(places) == len(levels) else levels[places]


def _move(step: Float64, h: int, w: int) -> Float64:
    linear = np.array([[step[0], step[1]], [step[3], step[4]]]) / w
    move = np.eye(3)
    move[:2, :2] += linear
    move[:2, 2] = step[[2, 5]] - linear @ np.array([w / 2, h / 2])
    return move


def normalised(grey: Float32, window: int = 9) -> Float32:
    """Levels less the mean around them, over the local contrast."""
    mean = cv2.boxFilter(grey, -1, (window, window))
    variance = np.maximum(cv2.boxFilter(grey * grey, -1, (window, window)) - mean * mean, 0.0)
    return np.asarray((grey - mean) / (np.sqrt(variance) + _NOISE), np.float32)


def _equally_sharp(a: Float32, b: Float32, common: Bools) -> tuple[Float32, Float32]:
    """The sharper of the two blurred until both have as much fine detail."""
    both, places = [_blurred(a, 0.8), _blurred(b, 0.8)], np.flatnonzero(common)
    fine = [_fineness(levels, places) for levels in both]
    for rounds_left in reversed(range(4)):
        sharper = 0 if fine[0] > 1.15 * fine[1] else 1
        if not fine[sharper] > 1.15 * fine[1 - sharper]:
            break
        both[sharper] = _blurred(both[sharper], 0.9)
        if rounds_left:
            fine[sharper] = _fineness(both[sharper], places)
    return both[0], both[1]


def _fineness(levels: Float32, places: Int64) -> float:
    return float(np.abs(_at(cv2.Laplacian(levels, cv2.CV_32F).ravel(), places)).mean())


def _blurred(levels: Float32, sigma_px: float) -> Float32:
    return np.asarray(cv2.GaussianBlur(levels, (0, 0), sigma_px), np.float32)


def whole_to_whole(a: tuple[int, ...], b: tuple[int, ...], flip: tuple[int, int]) -> Float64:
    """The map of a whole image to a whole image, the middles of corner pixels included."""
    rows = []
    for axis, sign in ((1, flip[0]), (0, flip[1])):
        scale = sign * b[axis] / a[axis]
        rows.append((scale, (b[axis] - 1) / 2 - scale * (a[axis] - 1) / 2))
    (sx, tx), (sy, ty) = rows
    return np.array([[sx, 0, tx], [0, sy, ty]])

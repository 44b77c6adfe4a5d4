"""Do two thumbnails show the same picture? Local features, one affine map, and the content that agrees under it.

An embedding says that two images are alike; it cannot say that they are alike because both sit in one screenshot
frame. Here keypoints (SIFT: Lowe 2004; square-rooted: Arandjelovic and Zisserman, CVPR 2012) propose one affine map,
mirrored or not, and then the images are laid over each other and compared block by block.

Every match carries scale and direction of its keypoints, so each one alone is a hypothesis, and all of them are scored
at once: no random draws (unlike RANSAC), the same answer each time, and ten true matches among a hundred are found. The
mirror image of a SIFT descriptor is a permutation of it, so mirrored copies cost a second matrix product, not a second
detection.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from dedup_spark.kernels.arrays import Bools, Float32, Float64, Int64, UInt8, expect
from dedup_spark.kernels.comparing.keypoints import Keypoints, find_keypoints

MIN_INLIERS = 6
"""With fewer inliers the images count as not aligned: six chance matches seldom fit one map, eight almost never."""

BLOCK_PX = 16
MIN_TEXTURE = 4.0
"""Grey levels: a block whose standard deviation is below this in both images is flat and does not count."""
MIN_CORRELATION = 0.5

_MAX_RATIO = 0.8
_MAX_MATCHES = 250
_MAX_HYPOTHESES = 60
_SURE_INLIERS = 25
"""With so many inliers the mirrored direction is not tried."""
_TOLERANCES_PX = (14.0, 8.0, 5.0, 4.0, 4.0)
"""First for the similarity map of one match (an image squashed by 4:3 is off by some pixels), then for affine maps,
each fitted to the inliers of the one before."""

_MIRROR = np.arange(128).reshape(4, 4, 8)[::-1, :, (-np.arange(8)) % 8].reshape(-1)
"""In a mirror, the rows of the 4 x 4 grid swap about the keypoint's direction, and the angles change sign."""


@dataclass(frozen=True, slots=True)
class Described:
    """A thumbnail with its keypoints and their descriptors.

    `grey` (h, w) uint8; `points` (k, 2) float32 x, y; `frames` (k, 2) float32 the keypoint's direction times its size,
    pixels; `descriptors` (k, 128) float32 unit rows. About 300 KB.
    """

    grey: UInt8
    points: Float32
    frames: Float32
    descriptors: Float32


@dataclass(frozen=True, slots=True)
class Alignment:
    """`matrix` (2, 3) float64 takes points of the first image to the second; None when too few matches fit one."""

    n_inliers: int
    matrix: Float64 | None


def describe_grey(grey: UInt8) -> Described:
    """(h, w) grey levels with their keypoints; about 20 ms at 256 px on one core."""
    return described(grey, find_keypoints(grey))


def described(grey: UInt8, found: Keypoints) -> Described:
    """(h, w) grey levels with keypoints that were found before; 0.1 ms."""
    expect(grey=(grey, "h w", np.uint8))
    raw = found.descriptors.astype(np.float32)
    root = np.sqrt(raw / np.maximum(raw.sum(axis=1, keepdims=True), 1e-6))
    return Described(grey, found.points, found.frames, root)


def align(a: Described, b: Described) -> Alignment:
    """The affine map, mirrored or not, with the most inliers among the matches of a and b; 2 to 6 ms on one core."""
    if min(len(a.points), len(b.points)) < MIN_INLIERS:
        return Alignment(0, None)
    plain = _best_map(a, b, b.descriptors, False)
    if plain.n_inliers >= _SURE_INLIERS:
        return plain
    mirrored = _best_map(a, b, b.descriptors[:, _MIRROR], True)
    return max(plain, mirrored, key=lambda f: f.n_inliers)


def _best_map(a: Described, b: Described, descriptors: Float32, flip: bool) -> Alignment:
    i, j = _matches(a.descriptors @ descriptors.T)
    if len(i) < MIN_INLIERS:
        return Alignment(0, None)
    p, q = a.points[i].astype(np.float64), b.points[j].astype(np.float64)
    near = _first_consensus(a, b, i, j, flip)
    if _n_distinct(p[near], q[near]) < MIN_INLIERS:
        return Alignment(0, None)
    homogeneous = np.hstack([p, np.ones((len(p), 1))])
    fitted, residual, fitted_to = np.zeros((3, 2)), np.zeros(len(p)), np.zeros(len(p), bool)
    for tolerance in _TOLERANCES_PX[1:]:
        if near.sum() < MIN_INLIERS:
            return Alignment(0, None)
        if not np.array_equal(near, fitted_to):  # else the fit would be the same
            fitted, *_ = np.linalg.lstsq(homogeneous[near], q[near], rcond=None)
            residual, fitted_to = np.linalg.norm(homogeneous @ fitted - q, axis=1), near
        near = residual < tolerance
    n_inliers = _n_distinct(p[near], q[near])
    if n_inliers < MIN_INLIERS or not _plausible(fitted.T):
        return Alignment(0, None)
    return Alignment(n_inliers, fitted.T)


def _first_consensus(a: Described, b: Described, i: Int64, j: Int64, flip: bool) -> Bools:
    """(m,) whether each match is an inlier of the best hypothesis, which comes from a single match."""
    h = slice(_MAX_HYPOTHESES)
    linear, shift = _hypotheses(a, b, i[h], j[h], flip)
    p, q = a.points[i], b.points[j]
    dx, dy = (np.outer(linear[:, r, 0], p[:, 0]) + np.outer(linear[:, r, 1], p[:, 1])
              + shift[:, r, None] - q[None, :, r] for r in (0, 1))  # fmt: skip
    residual = np.minimum(dx * dx + dy * dy, _TOLERANCES_PX[0] ** 2)  # truncated squares, as in MSAC
    best = int(np.argmin(residual.sum(axis=1)))
    return np.asarray(residual[best] < _TOLERANCES_PX[0] ** 2)


def _matches(cosines: Float32) -> tuple[Int64, Int64]:
    """Rows and columns of the nearest descriptors that pass Lowe's ratio test, the most distinct first."""
    rows = np.arange(len(cosines))
    j = cosines.argmax(axis=1)
    first = cosines[rows, j].copy()
    cosines[rows, j] = -1.0
    second = cosines.max(axis=1)
    ratio = (1.0 - first) / np.maximum(1.0 - second, 1e-6)  # of squared distances of unit rows
    passed = np.flatnonzero(ratio < _MAX_RATIO**2)
    passed = passed[np.argsort(ratio[passed], kind="stable")[:_MAX_MATCHES]]
    return passed, j[passed]


def _hypotheses(a: Described, b: Described, i: Int64, j: Int64, flip: bool) -> tuple[Float32, Float32]:
    """Similarity maps (m, 2, 2) and shifts (m, 2): each takes the frame of one keypoint to that of its match."""
    u, v = a.frames[i], b.frames[j]
    across_u = np.stack([-u[:, 1], u[:, 0]], axis=1)
    across_v = np.stack([-v[:, 1], v[:, 0]], axis=1) * (-1.0 if flip else 1.0)
    norm = (u * u).sum(axis=1)[:, None, None]
    linear = (v[:, :, None] * u[:, None, :] + across_v[:, :, None] * across_u[:, None, :]) / norm
    shift = b.points[j] - np.einsum("hxy,hy->hx", linear, a.points[i])
    return linear, shift


def _n_distinct(p: Float64, q: Float64) -> int:
    """Matches at different places in both images: a spot with keypoints at several scales counts once."""
    if not len(p):
        return 0
    cells = [np.round(x / 3.0).astype(np.int64) for x in (p, q)]
    return min(len(np.unique(c[:, 0] * 100_003 + c[:, 1])) for c in cells)


def _plausible(matrix: Float64) -> bool:
    """Whether a map squashes by less than 3:1 and scales by less than 12: no edit goes further, chance often does."""
    wide, narrow = np.linalg.svd(matrix[:, :2], compute_uv=False)
    return bool(narrow > 1 / 12 and wide < 12 and wide < 3.0 * narrow)


def overlay(query: Described, other: Described, matrix: Float64) -> tuple[Float32, Bools]:
    """`other` laid over the query image: what it shows in each block of that, and which blocks it covers.

    Returns:
        (blocks, BLOCK_PX^2) float32: grey levels less their block's mean; (blocks,) bool.
    """
    expect(matrix=(matrix, "2 3", np.float64))
    h, w = query.grey.shape
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    source = cv2.GaussianBlur(other.grey, (0, 0), 0.5 * scale) if scale > 1.2 else other.grey
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(source, matrix, (w, h), flags=flags)
    covered = cv2.warpAffine(np.full_like(other.grey, 255), matrix, (w, h), flags=flags)
    inside = cut_blocks(covered.astype(np.float32)).mean(axis=1) > 0.9 * 255
    return centred_blocks(np.asarray(warped, np.uint8)), inside


def centred_blocks(grey: UInt8) -> Float32:
    """(h, w) to (blocks, BLOCK_PX^2), each less its mean; blurred, as an alignment is off by a pixel or two."""
    expect(grey=(grey, "h w", np.uint8))
    blocks = cut_blocks(cv2.GaussianBlur(grey, (0, 0), 1.5).astype(np.float32))
    return blocks - blocks.mean(axis=1, keepdims=True)


def cut_blocks(plane: Float32) -> Float32:
    """(h, w) to (blocks, BLOCK_PX^2); what is left at the right and bottom edge, less than a block, is dropped."""
    expect(plane=(plane, "h w", np.float32))
    rows, columns = (max(1, s // BLOCK_PX) for s in plane.shape)
    padded = plane
    if min(plane.shape) < BLOCK_PX:
        padded = np.pad(plane, [(0, max(0, BLOCK_PX - s)) for s in plane.shape], mode="edge")
    whole = padded[: rows * BLOCK_PX, : columns * BLOCK_PX]
    return whole.reshape(rows, BLOCK_PX, columns, BLOCK_PX).swapaxes(1, 2).reshape(rows * columns, -1)

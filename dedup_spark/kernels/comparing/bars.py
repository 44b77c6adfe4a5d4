"""Was something added on two sides of another member? Blurred bars, as apps put beside a photo of another shape.

Such bars look like a picture: a file alone does not tell them from a photo with a soft foreground. Its group does. The
whole of another member lies as a strip across this one, and the shapes of the two say how wide the strip is. A crop
lies in its original in the same way; but there nothing happens where it ends. At a bar brightness jumps along the whole
line (the seam), or fine detail ends there (the bar is blurred), or both.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from dedup_spark.kernels.arrays import Float32, Float64, Int64, UInt8, expect

_LEAST_CORRELATION = 0.9
"""Of the strip with the other's levels in small. Of 130 strips in copies with blurred bars the least was 0.94."""
_BLUR_CELLS = 3
"""Ends lie between cells: half a cell off, fur correlates by 0.88, and by 0.97 in means of 3 by 3 cells."""
_LEAST_CELLS = 4
_OTHER_SHAPE = 0.03
"""Of the logarithm of width over height."""
_LEAST_BAR_LINES = 4
_LEAST_JUMP = 0.85
"""Of seam and end of detail together, each the logarithm of a ratio, at the weaker end of the strip. Of 117 copies with
blurred, darkened, stretched or one-coloured bars all reach it, of 475 strips that were cut out of 130 photos 0.6 %."""
_NEAR, _WIDE, _DETAIL_LINES, _OFF_LINES = 14, 30, 8, 4
"""Lines of a thumbnail: beside a seam in the bar and in the picture; for detail; and by which the end may be off."""
_NOISE_LEVELS, _DETAIL_NOISE_LEVELS = 0.5, 0.3
_CODE = 32.0
"""Steps of a stored mean per factor of e: 3 % each, up to 255 levels in a byte."""


@dataclass(frozen=True, slots=True)
class Lines:
    """Of a thumbnail (h, w), for rows and then for columns: `across` the mean difference of each line to the next one,
    `along` that of neighbours within each line; float64, in levels."""

    across: tuple[Float64, Float64]
    along: tuple[Float64, Float64]


def describe(jpeg: bytes) -> bytes:
    """The `Lines` of a thumbnail in 2 (h + w) bytes, for `unpack`; 0.5 ms at 256 px. ValueError for no image."""
    grey = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE) if jpeg else None
    if grey is None:
        raise ValueError("a thumbnail cannot be decoded")
    down, right = cv2.absdiff(grey[1:], grey[:-1]), cv2.absdiff(grey[:, 1:], grey[:, :-1])
    means = (down.mean(axis=1), right.mean(axis=0), right.mean(axis=1), down.mean(axis=0))
    coded = (np.rint(_CODE * np.log1p(8 * np.nan_to_num(mean))).astype(np.uint8).tobytes() for mean in means)
    return np.array(grey.shape, "<u2").tobytes() + b"".join(coded)


def unpack(described: bytes) -> Lines:
    """The `Lines` of `describe`."""
    height, width = np.frombuffer(described[:4], "<u2").astype(int).tolist()
    levels = np.expm1(np.frombuffer(described[4:], np.uint8) / _CODE) / 8
    parts = np.split(levels, np.cumsum([height - 1, width - 1, height]))
    return Lines((parts[0], parts[1]), (parts[2], parts[3]))


def find_strip(levels: UInt8, other: UInt8, log_ratio: float) -> tuple[int, float, float] | None:
    """Where the whole of another picture lies as a strip across this one; None where it does not.

    Args:
        levels, other: (c, c) of both, each squashed to a square.
        log_ratio: of width over height of the other, over that of this one; positive for a strip of rows.
    Returns:
        (axis, first, last): 0 for a strip of rows, 1 for columns; where it begins and ends, as shares of the side.
    Cost: 0.1 ms.
    """
    expect(levels=(levels, "c c", np.uint8), other=(other, "c c", np.uint8))
    share, axis = float(np.exp(-abs(log_ratio))), int(log_ratio < 0)
    cells = len(levels)
    n = round(share * cells)
    if not _LEAST_CELLS <= n < cells:
        return None
    of_this, of_other = (np.ascontiguousarray(x.T if axis else x, np.float32) for x in (levels, other))
    of_other = np.asarray(cv2.resize(of_other, (cells, n), interpolation=cv2.INTER_AREA), np.float32)
    whole, strip = (cv2.blur(x, (_BLUR_CELLS, _BLUR_CELLS)) for x in (of_this, of_other))
    if min(float(whole.std()), float(strip.std())) < 1:
        return None  # plain pictures are like anything
    found = cv2.matchTemplate(whole[1:-1], strip[1:-1], cv2.TM_CCOEFF_NORMED)  # what lies beside blurs into the ends
    likeness = np.asarray(found[:, 0], np.float32)
    best = int(likeness.argmax())
    if likeness[best] < _LEAST_CORRELATION:
        return None
    first = (best + _beside(likeness, best) + (n - share * cells) / 2) / cells
    return axis, first, first + share


def _beside(likeness: Float32, best: int) -> float:
    """Where between cells the parabola through the best and its neighbours is highest, -0.5 to 0.5."""
    if not 0 < best < len(likeness) - 1:
        return 0.0
    before, here, after = likeness[best - 1 : best + 2].astype(float).tolist()
    bend = before - 2 * here + after
    return 0.5 * (before - after) / bend if bend < 0 else 0.0


def has_bars(lines: Lines, strip: tuple[int, float, float]) -> bool:
    """Whether both ends of a strip of `find_strip` look like those of bars; not where it reaches an edge."""
    axis, first, last = strip
    across, along = lines.across[axis], lines.along[axis]
    n = len(along)
    jumps = [_jump(across, along, first * n), _jump(across[::-1], along[::-1], (1 - last) * n)]
    return min(jumps) >= _LEAST_JUMP


def _jump(across: Float64, along: Float64, end: float) -> float:
    """How strongly a bar stands out, of which the line `end` is the first behind it; 0 for too few lines."""
    if end < _LEAST_BAR_LINES or end > len(across) - _LEAST_BAR_LINES:
        return 0.0
    from_line = max(0, int(np.floor(end)) - _OFF_LINES)
    seam = from_line + int(across[from_line : int(np.ceil(end)) + _OFF_LINES].argmax())
    usual = [float(np.median(part)) for part in (
        across[max(0, seam - _NEAR) : max(1, seam - 1)], across[seam + 2 : seam + _WIDE]) if len(part)]  # fmt: skip
    detail = [float(part.mean()) if len(part) else 0.0 for part in (
        along[max(0, seam - _DETAIL_LINES) : max(1, seam)], along[seam + 3 : seam + 3 + _DETAIL_LINES])]  # fmt: skip
    at_seam = np.log((across[seam] + _NOISE_LEVELS) / (max(usual) + _NOISE_LEVELS))
    of_detail = np.log((detail[1] + _DETAIL_NOISE_LEVELS) / (detail[0] + _DETAIL_NOISE_LEVELS))
    return float(max(at_seam, 0.0) + max(of_detail, 0.0))


def another_shape(log_ratio: Float64) -> Int64:
    """(p, 2) ordered pairs (this, other) of pictures whose shapes differ so that one may be a strip of the other."""
    differ = np.abs(log_ratio[:, None] - log_ratio) > _OTHER_SHAPE
    return np.argwhere(differ).astype(np.int64)

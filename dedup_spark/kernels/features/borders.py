"""How much of a picture is not the picture: bars of a screenshot or a caption, a letter-box, a frame.

An added border is a band along an edge in one background colour, on which there may be text, that ends in a straight
line over most of its length; or, on two opposite sides, a blurred enlargement of the picture itself. The white ground
of a product photo does not end in a line, and the sky has no such end: they are no borders. A picture that always had a
border has one here, too, as all its copies have.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np

from dedup_spark.kernels.arrays import Bools, UInt8, expect

Floats = np.ndarray[Any, Any]

_SAMPLES = 64
"""Values of each row and column that are looked at."""
_SAME_LEVELS, _LEAST_BACKGROUND = 8, 0.55
_EDGE_LEVELS, _LEAST_EDGE, _LEAST_OPPOSITE_EDGE = 14, 0.4, 0.1
"""A band needs less of an edge where the opposite one, in the same colour, has one: dark photos lie in dark bars."""
_LEAST_SHARE, _LEAST_PX, _MOST_SHARE = 0.004, 2, 0.48
_FIRST_LINES = 16
"""Most pictures have no band: so many lines show it, and the others are not looked at."""
_RULE_PX, _RULE_SHARE = 3, 0.012
"""A band may have lines across it, as thick as this."""
_JUMP_LINES, _SMOOTH_LEVELS, _SHARPER, _NOISE_LEVELS = 5, 0.9, 2.5, 0.06
_LEAST_SIDE_PX, _NESTED = 24, 3
_LEAST_CORNERS, _LEAST_LEG, _MOST_BENT = 3, 4, 0.2
"""A triangle: its area is near half the product of its legs, each of so many values of _SAMPLES."""
_LEAST_SMOOTH_SHARE = 0.03


class Inside(NamedTuple):
    """Where the picture itself lies, in shares of width and height, and the share of the area that is corners beside a
    turned picture."""

    left: float
    top: float
    right: float
    bottom: float
    corners: float = 0.0

    @property
    def added_share(self) -> float:
        """Share 0 to 1 of the area that lies outside."""
        return max(0.0, self.corners, 1 - (self.right - self.left) * (self.bottom - self.top))


def inside_borders(grey: UInt8) -> Inside:
    """The part of (h, w) uint8, a picture at full size or reduced, that added borders leave.

    Cost: about 0.2 ms for 500 px: of each row and column _SAMPLES values are read, and of those of a picture without
    borders the first few rows and columns.
    """
    expect(grey=(grey, "h w", np.uint8))
    if min(grey.shape) < _LEAST_SIDE_PX:
        return Inside(0.0, 0.0, 1.0, 1.0)
    height, width = grey.shape
    left, top, right, bottom = 0, 0, width, height
    for _ in range(_NESTED):  # bars within a frame; and within bars at the sides those above and below are plainer
        within = grey[top:bottom, left:right]
        before, after = _bands(within.T)
        left, right = left + before, right - after
        above, below = _bands(within[:, before : within.shape[1] - after])
        top, bottom = top + above, bottom - below
        if not any((before, after, above, below)) or min(bottom - top, right - left) < _LEAST_SIDE_PX:
            break
    return Inside(left / width, top / height, right / width, bottom / height, _corners(grey))


def _bands(lines: UInt8) -> tuple[int, int]:
    """The number of lines at the beginning and at the end that are added bands."""
    step = max(1, lines.shape[1] // _SAMPLES)
    first, last = _band(lines[:, ::step]), _band(lines[::-1, ::step])
    alike = first.n > 0 and last.n > 0 and abs(first.background - last.background) <= _SAME_LEVELS
    least = _LEAST_OPPOSITE_EDGE if alike and max(first.edge, last.edge) >= _LEAST_EDGE else _LEAST_EDGE
    found = tuple(band.n if band.edge >= least else 0 for band in (first, last))
    if any(found):
        return found[0], found[1]
    smooth = _smooth_bands(_mean_difference(lines[:, 1::step], lines[:, :-1:step]))
    return smooth, smooth


def _mean_difference(a: UInt8, b: UInt8) -> Floats:
    """(h,) of each line of (h, w) uint8, in levels."""
    return cv2.reduce(cv2.absdiff(a, b), 1, cv2.REDUCE_SUM, dtype=cv2.CV_32S)[:, 0] / a.shape[1]


class _Band(NamedTuple):
    """Lines in one background colour, and the share of the line behind them along which it stops."""

    n: int
    background: int
    edge: float


def _band(lines: UInt8) -> _Band:
    """The band that begins with the first line; of no lines where there is none."""
    n = len(lines)
    most, rule = int(_MOST_SHARE * n), max(_RULE_PX, round(_RULE_SHARE * n))
    background = int(_median(lines[:2].ravel()))
    for looked_at in (min(most, _FIRST_LINES + rule), most):
        end = _first_run(_lacks(lines[:looked_at], background), rule, looked_at == most)
        if end < looked_at:
            break
    if not max(_LEAST_PX, _LEAST_SHARE * n) <= end < most:
        return _Band(0, background, 0.0)
    return _Band(end, background, _edge(lines[: most + 3].astype(np.int16), end, background))


def _lacks(lines: UInt8, background: int) -> Bools:
    """Of which lines the background is too small a part."""
    near = np.abs(lines.astype(np.int16) - background) <= _SAME_LEVELS
    return np.add.reduce(near, axis=1, dtype=np.intp) / near.shape[1] < _LEAST_BACKGROUND


def _median(values: UInt8) -> float:
    """As `np.median`, whose call takes longer than all else here."""
    ordered, middle = np.sort(values), len(values) // 2
    return float(ordered[middle]) if len(values) % 2 else (int(ordered[middle - 1]) + int(ordered[middle])) / 2


def _edge(near: np.ndarray[Any, Any], end: int, background: int) -> float:
    """The share of the line `end` along which the background stops, within the two lines that interpolation blurs."""
    before = np.abs(near[max(0, end - 2)] - background) <= _EDGE_LEVELS
    after = np.abs(near[min(end + 1, len(near) - 1)] - background) > _EDGE_LEVELS
    return float((before & after).mean())


def _corners(grey: UInt8) -> float:
    """The share of the area in plain triangles of one colour at three corners or four, as turning leaves them."""
    small = grey[:: max(1, grey.shape[0] // _SAMPLES), :: max(1, grey.shape[1] // _SAMPLES)].astype(np.int16)
    views = (small, small[:, ::-1], small[::-1], small[::-1, ::-1])
    colours = [int(view[0, 0]) for view in views]
    middle = sum(sorted(colours)[1:3]) / 2
    alike = [view for view, colour in zip(views, colours, strict=True) if abs(colour - middle) <= _SAME_LEVELS]
    if len(alike) < _LEAST_CORNERS:
        return 0.0
    areas = [area for area in map(_triangle, alike) if area > 0]
    return sum(areas) / small.size if len(areas) >= _LEAST_CORNERS else 0.0


def _triangle(view: np.ndarray[Any, Any]) -> float:
    """The values of the plain triangle at the first corner; 0 where what is plain there is not one."""
    plain = np.abs(view - view[0, 0]) <= _SAME_LEVELS
    plain = plain[int(plain[:_LEAST_LEG].all(axis=1).sum()) :]  # the first line may miss the corner of the picture
    lengths = np.where(plain.all(axis=1), view.shape[1], plain.argmin(axis=1))
    high = int(lengths.argmin())  # where a corner of the picture touches the side; it may fall between two values
    if lengths[high] > 2 or high < _LEAST_LEG or not _LEAST_LEG <= lengths[0] < view.shape[1] - 1:
        return 0.0
    lengths = lengths[:high]
    area = float(lengths.sum())
    return area if abs(area / (0.5 * (lengths[0] + 1) * (high + 1)) - 1) <= _MOST_BENT else 0.0


def _first_run(flags: Bools, longer_than: int, may_go_on: bool) -> int:
    """Where the first run of more true flags than that begins, which may go on behind the last; else their number."""
    behind = b"\1" * longer_than if may_go_on else b""
    found = (flags.tobytes() + behind).find(b"\1" * (longer_than + 1))
    return found if found >= 0 else len(flags)


def _smooth_bands(activity: Floats) -> int:
    """The width of the two equal bands of blurred picture on opposite sides; 0 where there are none.

    `activity` is the mean difference of neighbours along each line, in levels. At the end of such a band it jumps, on
    both sides at the same distance. Lines without any difference are plain, and not blurred.
    """
    width, n = _JUMP_LINES, len(activity)
    least, most = max(width, round(_LEAST_SMOOTH_SHARE * n)), int(_MOST_SHARE * n)
    if most <= least:
        return 0
    (before, after), (before_end, after_end) = (_around(side, least, most) for side in (activity, activity[::-1]))
    smooth = np.maximum(before, before_end) <= _SMOOTH_LEVELS
    blurred = smooth & (np.minimum(before, before_end) >= _NOISE_LEVELS)
    if not blurred.any():
        return 0
    jumps = np.minimum(after / (before + _NOISE_LEVELS), after_end / (before_end + _NOISE_LEVELS))
    place = int(np.argmax(jumps * blurred))
    return least + place if blurred[place] and jumps[place] >= _SHARPER else 0


def _around(activity: Floats, least: int, most: int) -> tuple[Floats, Floats]:
    """The mean of _JUMP_LINES lines before each end `least` to `most`, and behind the line that interpolation mixes."""
    wide = _JUMP_LINES
    sums = np.concatenate([[0.0], np.cumsum(activity[: most + wide])])
    mean_before = (sums[least:most] - sums[least - wide : most - wide]) / wide
    return mean_before, (sums[least + 1 + wide : most + 1 + wide] - sums[least + 1 : most + 1]) / wide

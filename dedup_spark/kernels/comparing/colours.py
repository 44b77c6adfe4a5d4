"""Whether the colours of two aligned pictures differ by an edit of the whole, or by another colour of a thing in it.

A loss of colour, a common cast, brightness and contrast change everything alike: an edit. A strong hue that became
another, or a thing that changed while the ground around it did not, is another shirt, flag or logo, or a filter of
hues.
"""

from __future__ import annotations

from typing import TypedDict

import cv2
import numpy as np

from dedup_spark.kernels.arrays import Bools, Float32, Float64, UInt8, expect
from dedup_spark.vocabulary import ColourChange

SIDE_PX = 64
NONE, TONE, HUE = 0, 1, 2
"""The colours agree; they differ by an edit of the whole; something has another colour."""
_CHANGES = {NONE: ColourChange.NONE, TONE: ColourChange.TONE, HUE: ColourChange.HUE}

_STRONG = 20.0
"""Chroma in Lab: below, the hue of a JPEG is noise."""
_TURNED_DEGREES = 32.0
_SAME_DISTANCE = 6.0
"""Of colours in Lab: two JPEGs of one picture lie below."""
_TONED_CHROMA = 34.0
"""A toned picture (sepia) has no stronger colour than that."""
_OTHER_DISTANCE, _STILL_DISTANCE = 24.0, 7.0
"""A thing has another colour where it moved by more than the first while the ground moved by less than the second."""
_GROUND_SHARE, _MIN_SHARE = 0.3, 0.015
_MIN_OF_COLOURED = 0.25
_MIN_PIXELS = 60


class Colours(TypedDict):
    """`colour` one of NONE, TONE, HUE; `colour_distance` mean distance in Lab, nan where too little is common."""

    colour: int
    colour_distance: float


def changes(colours: Float64) -> list[ColourChange | None]:
    """(m,) NONE, TONE or HUE, nan where nothing was compared, by the words of the column `colour_change`."""
    return [None if np.isnan(code) else _CHANGES[int(code)] for code in colours]


def small_lab(bgr: UInt8) -> Float32:
    """(h, w, 3) BGR to (h', w', 3) float32 Lab of at most SIDE_PX: lightness 0 to 100, a and b about -100 to 100."""
    expect(bgr=(bgr, "h w 3", np.uint8))
    factor = min(1.0, SIDE_PX / max(bgr.shape[:2]))
    size = [max(1, round(s * factor)) for s in bgr.shape[1::-1]]
    small = cv2.resize(bgr, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2LAB), np.float32)


def compare(a: Float32, b: Float32, matrix: Float64) -> Colours:
    """Of two pictures as `small_lab`; `matrix` takes points of a to b. 0.3 ms on one core."""
    h, w = a.shape[:2]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    other = cv2.warpAffine(b, matrix, (w, h), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    inside = cv2.warpAffine(np.ones(b.shape[:2], np.float32), matrix, (w, h), flags=flags) > 0.99
    even = inside & _is_even(a) & _is_even(np.asarray(other, np.float32))
    if even.sum() < _MIN_PIXELS:
        return Colours(colour=NONE, colour_distance=float("nan"))
    x, y = a[even].astype(np.float64), other[even].astype(np.float64)
    distance = np.linalg.norm(x - y, axis=1)
    return Colours(colour=_change(x, y, distance), colour_distance=float(distance.mean()))


def _is_even(lab: Float32) -> Bools:
    """Where no edge is near: there an alignment that is off by a pixel does not matter."""
    kernel = np.ones((3, 3), np.uint8)
    spread = cv2.dilate(lab, kernel) - cv2.erode(lab, kernel)
    return np.asarray(spread.max(axis=2) < 18)


def _change(x: Float64, y: Float64, distance: Float64) -> int:
    if quantile(distance, 0.95) < _SAME_DISTANCE:
        return NONE
    if _is_toned(x, y) or _is_toned(y, x):
        return TONE
    return HUE if _has_turned(x, y) or _thing_has_moved(x, y, distance) else TONE


def _chroma(lab: Float64) -> Float64:
    return np.hypot(lab[:, 1], lab[:, 2])


def _is_toned(x: Float64, y: Float64) -> bool:
    """Whether y may be x without its colours, in grey or one weak tone: its colour follows from its lightness, which is
    that of x up to one factor."""
    if quantile(_chroma(y), 0.98) > _TONED_CHROMA:
        return False
    terms = np.stack([np.ones(len(y)), y[:, 0], y[:, 0] ** 2], axis=1)
    fitted, *_ = np.linalg.lstsq(terms, y[:, 1:], rcond=None)
    if quantile(np.linalg.norm(terms @ fitted - y[:, 1:], axis=1), 0.9) > 6:
        return False
    factor = float(x[:, 0] @ y[:, 0]) / max(float(x[:, 0] @ x[:, 0]), 1.0)
    return quantile(np.abs(factor * x[:, 0] - y[:, 0]), 0.9) < 12


def quantile(values: Float64, share: float) -> float:
    """As `np.quantile` of (n,) values without nan, bit for bit, in a tenth of the time."""
    at = share * (len(values) - 1)
    below = int(at)
    above = min(below + 1, len(values) - 1)
    ordered = np.partition(values, (below, above))
    low, high, part = float(ordered[below]), float(ordered[above]), at - below
    return low + (high - low) * part if part < 0.5 else high - (high - low) * (1 - part)


def _has_turned(x: Float64, y: Float64) -> bool:
    """Whether a strong hue became another, more than by a cast that all colours share."""
    strong_x, strong_y = _chroma(x) > _STRONG, _chroma(y) > _STRONG
    coloured, strong = strong_x | strong_y, strong_x & strong_y
    if int(strong.sum()) <= _MIN_SHARE * len(x):
        return False
    cast = np.median(y[:, 1:] - x[:, 1:], axis=0)
    moved = np.linalg.norm(y[:, 1:] - x[:, 1:] - cast, axis=1) > _STRONG
    angle = np.arctan2(x[:, 2], x[:, 1]) - np.arctan2(y[:, 2], y[:, 1])
    degrees = np.abs(np.rad2deg(np.arctan2(np.sin(angle), np.cos(angle))))
    turned = strong & (degrees > _TURNED_DEGREES)
    if np.mean(turned) > 0.5:  # the cast is then that of what has turned
        moved = np.ones_like(moved)
    n = int((turned & moved).sum())
    return n > _MIN_SHARE * len(x) and n > _MIN_OF_COLOURED * int(coloured.sum())


def _thing_has_moved(x: Float64, y: Float64, distance: Float64) -> bool:
    """Whether a thing on a plain ground has another colour, and the ground has not."""
    if (distance > _OTHER_DISTANCE).mean() <= _MIN_SHARE:
        return False
    ground = _ground(x) & _ground(y)
    if ground.mean() < _GROUND_SHARE or np.median(distance[ground]) > _STILL_DISTANCE:
        return False
    other = ~ground & (distance > _OTHER_DISTANCE)
    return bool(other.mean() > _MIN_SHARE and other.sum() > 0.5 * (~ground).sum())


def _ground(lab: Float64) -> Bools:
    """Which colours lie around the commonest one."""
    steps = np.round(lab / 8).astype(np.int64) @ np.array([1, 1000, 1_000_000])
    values, counts = np.unique(steps, return_counts=True)
    middle = np.median(lab[steps == values[np.argmax(counts)]], axis=0)
    return np.asarray(np.linalg.norm(lab - middle, axis=1) < 8)

"""Do two thumbnails show the same where they lie? Laid over each other as they are, without keypoints or an alignment.

Re-encoding and resizing leave everything at its place. So a copy made by these alone fits as it lies, also where there
is nothing to align by (sky, gradients, drawings); a crop, a mark, another text or a turned picture does not. Thumbnails
are compared in cells, 64 by 64 whatever their shape. The mean over 3 by 3 cells is hardly changed by compression, and
by resizing only where levels change steeply; there as much is allowed as a shift by a quarter of a cell makes.

Fitted on 40 photos and 18 drawn pages, slides and drawings with 39 re-encoded or resized copies and 41 edited copies
each; tested on 60 and 30 others (tests/kernels/comparing/test_layout.py has some of each kind). What is smaller than
two cells, a fiftieth of the picture, or fainter than a hundredth of the range of levels is not seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from dedup_spark.kernels.arrays import Bools, Float32, Int64, UInt8, expect

CELLS, COLOUR_CELLS = 64, 32
N_BYTES = CELLS**2 + 2 * COLOUR_CELLS**2
"""Of a described thumbnail: brightness by cells, then red and blue difference by four cells each."""
PLANE_ENDS = (CELLS**2, CELLS**2 + COLOUR_CELLS**2)

_SHIFT = np.array([0.25, 0.25, 0.3, 0.35, 0.4])
"""Of the range of levels around a cell: what an edge may change that moves by such a part of a cell. Pixels of a small
thumbnail are larger than cells; the steps of size are those of _SMALL_PX."""
_NOISE, _COLOUR_NOISE = (2.5, 6.0), (3.5, 12.0)
"""Levels that compression may change: 8 times the upper quartile over the cells, within these bounds. A strongly
compressed copy differs everywhere, a marked one at its mark."""
_TIMES_QUARTILE = 8.0
_MAX_CELLS, _MAXCOLOUR_CELLS = 4, 3
_MAX_EXCESS, _MAX_COLOUR_EXCESS = 12.0, 16.0
"""So many cells, and one by so many levels, may exceed that: dithering and ringing do."""

_MAX_BRIGHTNESS, _MAX_CONTRAST, _MAX_CAST = 4.0, 0.06, 2.5
"""Levels, the logarithm of a ratio, levels. A change of brightness by 7 % or of contrast by 10 % is beyond, JPEG of
quality 20 is not."""
_SATURATION = (-0.25, 0.12)
"""The logarithm of the saturation of the first over that of the second. A copy that lost its profile, or was compressed
strongly, is up to 0.22 paler than its original. What is more colourful than its original was made so."""
_CONTRAST_PER_STEP = 0.02

_SMALL_PX = (128, 80, 56, 40)
"""Thumbnails with a shorter side below these lose detail to their pixels: both are blurred, the more the smaller."""
_BLURS = (0, 1, 2, 4, 8)

_MIN_DETAIL, _FULL_DETAIL = 0.3, 1.2
"""Levels by which cells deviate from the mean around them. Below the first it is noise of compression; from there to
the second the correlation that is asked for rises."""
_MIN_CORRELATION = np.array([0.75, 0.7, 0.35, 0.3, -1.0])
"""Of full detail in both, by the same steps of size. The least of 2,262 re-encoded or resized photos and pages was 0.82
in the first two, 0.41 in the next two; two star fields have 0. Dark or pale JPEGs of quality 10 have less."""

_PLACED = tuple((turns, flipped) for flipped in (False, True) for turns in range(4))[1:]


@dataclass(frozen=True, slots=True)
class Differences:
    """One value for each pair of thumbnails; all (m,).

    `share` float32 of the cells that differ in structure or colour; `is_changed` more than re-encoding or resizing
    makes; `is_toned` brightness, contrast or colour differs as a whole; `is_turned` they differ as they lie, and not
    when one is turned by right angles or mirrored.
    """

    share: Float32
    is_changed: Bools
    is_toned: Bools
    is_turned: Bools


def describe(jpeg: bytes) -> tuple[bytes, int]:
    """N_BYTES of a thumbnail, and its shorter side; 1 ms at 256 px on one core. Raises ValueError for no image."""
    bgr = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) if jpeg else None
    if bgr is None:
        raise ValueError("a thumbnail cannot be decoded")
    return describe_pixels(np.asarray(bgr, np.uint8)), min(bgr.shape[:2])


def describe_pixels(bgr: UInt8) -> bytes:
    """N_BYTES of (h, w, 3) levels, blue first."""
    expect(bgr=(bgr, "h w 3", np.uint8))
    planes = cv2.split(cv2.cvtColor(bgr, cv2.COLOR_BGR2YCrCb))
    sides = (CELLS, COLOUR_CELLS, COLOUR_CELLS)
    cells = [cv2.resize(p, (s, s), interpolation=_method(p.shape, s)) for p, s in zip(planes, sides, strict=True)]
    return b"".join(plane.tobytes() for plane in cells)


def _method(shape: tuple[int, ...], side: int) -> int:
    return cv2.INTER_AREA if min(shape[:2]) >= side else cv2.INTER_LINEAR


def compare(a: UInt8, b: UInt8, shorter_px: Int64) -> Differences:
    """Pairs of described thumbnails (m, N_BYTES): of copies, and of what they may be copies of.

    `shorter_px` (m,) is the shorter side of the smaller one of each pair.
    About 1 ms and 0.5 MB per pair on one core.
    """
    expect(a=(a, "m n", np.uint8), b=(b, "m n", np.uint8), shorter_px=(shorter_px, "m", np.int64))
    steps = np.digitize(-shorter_px, [-px for px in _SMALL_PX])
    of_a, of_b = (_planes(x, steps) for x in (a, b))
    share, is_changed = _structure(of_a, of_b, steps)
    is_turned = np.zeros(len(a), bool)
    for turns, flipped in _PLACED:
        left = np.flatnonzero(is_changed & ~is_turned)
        placed = [_place(plane[left], turns, flipped) for plane in of_a]
        is_turned[left] = ~_structure(placed, [plane[left] for plane in of_b], steps[left])[1]
    return Differences(share, is_changed, _tone(of_a, of_b, steps), is_turned)


type _Planes = list[Float32]
"""Brightness (m, 64, 64), red and blue difference (m, 32, 32), blurred; and the detail of brightness (m, 64, 64)."""


def _planes(described: UInt8, steps: Int64) -> _Planes:
    parts = np.split(described.astype(np.float32), PLANE_ENDS, axis=1)
    sides = (CELLS, COLOUR_CELLS, COLOUR_CELLS)
    grey, red, blue = (p.reshape(len(p), side, side) for p, side in zip(parts, sides, strict=True))
    detail = grey - _mean3(grey)
    return [*(_blurred(plane, steps) for plane in (grey, red, blue)), detail]


def _place(plane: Float32, turns: int, flipped: bool) -> Float32:
    turned = np.rot90(plane, turns, axes=(1, 2))
    return np.ascontiguousarray(turned[:, :, ::-1] if flipped else turned)


def _structure(a: _Planes, b: _Planes, steps: Int64) -> tuple[Float32, Bools]:
    """The share of cells that differ, after brightness and contrast were made equal, and whether that is too much, or
    the detail inside the cells is another."""
    grey = np.abs(_mean3(_toned_as(a[0], b[0]) - b[0]))
    beyond, n_grey, most_grey = _beyond(grey, [(a[0], b[0])], _NOISE, steps)
    pairs = list(zip(_saturated_as(a, b), b[1:3], strict=True))
    colour = np.maximum(*(np.abs(_mean3(p - q)) for p, q in pairs))
    coloured, n_colour, most_colour = _beyond(colour, pairs, _COLOUR_NOISE, steps)
    differs = beyond | coloured.repeat(2, axis=1).repeat(2, axis=2)
    changed = (n_grey > _MAX_CELLS) | (most_grey > _MAX_EXCESS)
    changed |= (n_colour > _MAXCOLOUR_CELLS) | (most_colour > _MAX_COLOUR_EXCESS)
    return differs.mean(axis=(1, 2), dtype=np.float32), np.asarray(changed | _other_detail(a[3], b[3], steps))


def _other_detail(a: Float32, b: Float32, steps: Int64) -> Bools:
    """Whether both have detail that the mean over cells hides, as stars and small print, and it does not agree."""
    std_a, std_b = a.std(axis=(1, 2)), b.std(axis=(1, 2))
    correlation = (a * b).mean(axis=(1, 2)) / np.maximum(std_a * std_b, 1e-6)
    detail = (np.minimum(std_a, std_b) - _MIN_DETAIL) / (_FULL_DETAIL - _MIN_DETAIL)
    return np.asarray((detail > 0) & (correlation < _MIN_CORRELATION[steps] * np.minimum(detail, 1.0)))


def _beyond(
    difference: Float32, planes: list[tuple[Float32, Float32]], noise: tuple[float, float], steps: Int64
) -> tuple[Bools, Int64, Float32]:
    """Which cells differ by more than noise and a small shift make, how many they are, and the most levels."""
    range_a, range_b = (np.maximum.reduce([_range3(pair[k]) for pair in planes]) for k in (0, 1))
    excess = difference - _SHIFT[steps][:, None, None] * np.minimum(range_a, range_b)
    quartile = np.quantile(difference, 0.75, axis=(1, 2))
    allowed = np.clip(_TIMES_QUARTILE * quartile, *noise)[:, None, None]
    beyond = excess > allowed
    return beyond, beyond.sum(axis=(1, 2)), excess.max(axis=(1, 2), initial=-np.inf)


def _toned_as(a: Float32, b: Float32) -> Float32:
    """(m, h, w) `a` with the mean and the standard deviation of `b`."""
    (mean_a, std_a), (mean_b, std_b) = _moments(a), _moments(b)
    gain = np.where(std_a > 1, np.clip(std_b / np.maximum(std_a, 1), 0.5, 2.0), 1.0)[:, None, None]
    return np.asarray((a - mean_a[:, None, None]) * gain + mean_b[:, None, None], np.float32)


def _saturated_as(a: _Planes, b: _Planes) -> list[Float32]:
    """Red and blue difference of `a` with the saturation of `b`, as far as a copy may differ in it."""
    gain = np.exp(-np.clip(_saturation_ratio(a, b), *_SATURATION))[:, None, None]
    return [np.asarray((plane - 128) * gain + 128, np.float32) for plane in a[1:3]]


def _saturation_ratio(a: _Planes, b: _Planes) -> Float32:
    """The logarithm; grey pictures have a little, so that noise does not count."""
    spread = [np.sqrt(sum(((p - 128) ** 2).mean(axis=(1, 2)) for p in planes[1:3])) for planes in (a, b)]
    return np.asarray(np.log((spread[0] + 2) / (spread[1] + 2)))


def _tone(a: _Planes, b: _Planes, steps: Int64) -> Bools:
    """Whether brightness, contrast, saturation or cast differ as a whole. Small thumbnails lose contrast in texts."""
    (mean_a, std_a), (mean_b, std_b) = _moments(a[0]), _moments(b[0])
    contrast = np.abs(np.log(np.maximum(std_a, 1) / np.maximum(std_b, 1)))
    shifts = [(p - q).mean(axis=(1, 2)) for p, q in zip(_saturated_as(a, b), b[1:3], strict=True)]
    saturation = _saturation_ratio(a, b)
    return np.asarray(
        (np.abs(mean_a - mean_b) > _MAX_BRIGHTNESS)
        | (contrast > _MAX_CONTRAST + _CONTRAST_PER_STEP * steps)
        | (saturation < _SATURATION[0])
        | (saturation > _SATURATION[1])
        | (np.abs(shifts).max(axis=0) > _MAX_CAST)
    )


def _moments(plane: Float32) -> tuple[Float32, Float32]:
    return plane.mean(axis=(1, 2)), plane.std(axis=(1, 2))


def _blurred(plane: Float32, steps: Int64) -> Float32:
    for step in np.unique(steps[steps > 0]):
        mine = steps == step
        for _ in range(_BLURS[step]):
            plane[mine] = _mean3(plane[mine])
    return plane


def _mean3(plane: Float32) -> Float32:
    """(m, h, w): the mean over 3 x 3 cells."""
    padded = np.pad(plane, ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    return np.asarray((rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]) / 9)


def _range3(plane: Float32) -> Float32:
    """(m, h, w): the highest level less the lowest of 3 x 3 cells."""
    return _extreme3(plane, np.maximum) - _extreme3(plane, np.minimum)


def _extreme3(plane: Float32, extreme: np.ufunc) -> Float32:
    padded = np.pad(plane, ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = extreme(extreme(padded[:, :-2], padded[:, 1:-1]), padded[:, 2:])
    return np.asarray(extreme(extreme(rows[:, :, :-2], rows[:, :, 1:-1]), rows[:, :, 2:]))

"""What differs between two aligned thumbnails, and on which side: the content, not the layout.

Two slides of one template, two bottles in a row, two boards agree in layout, frame and colour. What tells them from
copies is a difference that has structure on both sides: another text line, another piece, another module.
Recompression, scaling, tone and blur do not make one, and a mark or a caption over plain ground shows on one side only.
An opaque sticker on a photo makes one, too, but there no plain ground is around it: see `Difference.template`.

They are laid into one frame first (laying.py). Windows of 16 px then correlate, or they do not, whichever shift by a
pixel fits best. Of 960 pairs of a drawn or written picture and its edited copy 97 % have less than 5 % of their
structure so on both sides; of 40 pairs of look-alikes of each of 21 kinds the median is 5 to 76 % but for posters and
flags, 2 to 5 % (benchmarks/lookalikes.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import cv2
import numpy as np

from dedup_spark.kernels.arrays import Bools, Float32, Float64, UInt8, expect
from dedup_spark.kernels.comparing import colours
from dedup_spark.kernels.comparing.laying import Laid, Levels, lay, levels_of, whole_to_whole

WINDOW_PX, STRIDE_PX = 16, 8
MIN_WINDOWS = 6
_STRUCTURE, _FAINT_STRUCTURE = 5.0, 1.2
"""Grey levels: a window whose standard deviation is above shows something. The second is taken where fewer than
MIN_WINDOWS reach the first: gradients, stars, sky. What is exchanged there cannot be told from the noise of a JPEG, so
that `fit` alone speaks."""
_SAME, _FAINT = 0.7, 0.7
"""From this correlation on two windows show the same; one is without structure below so much of _STRUCTURE."""
_ALIKE, _UNLIKE = 0.92, 0.52
"""Correlations at which two windows count as not exchanged at all, and as wholly exchanged: lines of other words have
the same lines, and correlate at 0.6 to 0.85, where copies of one page do at 0.97."""
_GROUND = 1
"""Grey levels around the commonest one that are the ground: paper, a screen or a cut-out is one level, a sky or a wall
is not."""
_MIN_IN_SMALL = 0.75
"""Correlation of 32 x 32 levels: below, two whole pictures are not compared further."""
_MAX_SQUASH = 0.05
"""Of the logarithm of width over height: without keypoints, pictures of other proportions are not laid over each
other."""
_FITS = 0.9
"""Median correlation of the windows that show something, from which on a map that keypoints did not give is right."""
_FLIPS = ((1, 1), (-1, 1), (1, -1), (-1, -1))


@dataclass(frozen=True, slots=True)
class Picture:
    """A thumbnail: `small` (h', w', 3) float32 Lab of at most colours.SIDE_PX a side; `ground` the share of its levels
    that lie around one of them."""

    levels: Levels
    small: Float32
    ground: float

    @property
    def grey(self) -> UInt8:
        """(h, w)."""
        return self.levels.grey


@dataclass(frozen=True, slots=True)
class Difference:
    """How the content of a and b differs, under one map.

    `covered_a`, `covered_b` share of the area of one that the other shows; `changed`, `two_sided` shares of the common
    area that differ, and that differ with structure on both sides; `one_sided` share of the structure that only a has,
    or that only b has, whichever is less: an edit adds to one of the two; `template` square root of the share of the
    structure that was exchanged, times the share of the common area that is ground, one level in both: large where
    written or drawn content was exchanged, small under a sticker on a photo; `fit` median correlation of windows with
    structure, nan where fewer than MIN_WINDOWS have it; `agreement` share of the structure that both show alike;
    `side_px` longest side of the common area in the pixels of the coarser thumbnail; `ground` share of the picture that
    is ground, the larger of the two; `is_faint` 1 where only faint structure could be compared; `colour` one of
    colours.NONE, TONE, HUE; `colour_distance` mean distance of colours in Lab.
    """

    covered_a: float
    covered_b: float
    changed: float
    two_sided: float
    one_sided: float
    template: float
    fit: float
    side_px: float
    ground: float
    is_faint: float
    agreement: float
    colour: float
    colour_distance: float


@dataclass(frozen=True, slots=True)
class Differences:
    """The fields of Difference for several pairs, each (m,) float64; nan where the two were not compared."""

    covered_a: Float64
    covered_b: Float64
    changed: Float64
    two_sided: Float64
    one_sided: Float64
    template: Float64
    fit: Float64
    side_px: Float64
    ground: Float64
    is_faint: Float64
    agreement: Float64
    colour: Float64
    colour_distance: Float64

    @classmethod
    def of(cls, found: Sequence[Difference | None]) -> Self:
        """In the same order."""
        nothing = float("nan")
        return cls(*(
            np.array([getattr(one, f.name) if one else nothing for one in found], np.float64) for f in fields(cls)
        ))  # fmt: skip

    @property
    def compared(self) -> Bools:
        return ~np.isnan(self.changed)


def picture(jpeg: bytes) -> Picture:
    """Decoded; 0.9 ms at 256 px on one core. Raises ValueError for no image."""
    bgr = decoded(jpeg)
    grey = grey_of(bgr)
    return Picture(levels_of(grey), colours.small_lab(bgr), _ground(grey))


def decoded(jpeg: bytes) -> UInt8:
    """(h, w, 3) levels, blue first. Raises ValueError for no image."""
    bgr = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) if jpeg else None
    if bgr is None:
        raise ValueError("a thumbnail cannot be decoded")
    return np.asarray(bgr, np.uint8)


def grey_of(bgr: UInt8) -> UInt8:
    """(h, w) of (h, w, 3)."""
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY), np.uint8)


def compare(a: Picture, b: Picture, matrix: Float64) -> Difference:
    """`matrix` (2, 3) takes points of a to b; 5 ms on one core."""
    expect(matrix=(matrix, "2 3", np.float64))
    laid = lay(a.levels, b.levels, matrix)
    return _difference(a, b, laid, windows(laid))


def compare_upright(a: Picture, b: Picture, *, flips: bool) -> Difference | None:
    """As `compare`, of two whole pictures laid over each other as they are or, with `flips`, also flipped: whichever
    fits best in small. None where they do not fit."""
    h, w = a.grey.shape
    if abs(np.log(w / h * b.grey.shape[0] / b.grey.shape[1])) > _MAX_SQUASH:
        return None
    flip, correlation = _best_in_small(a.grey, b.grey, _FLIPS if flips else _FLIPS[:1])
    if correlation < _MIN_IN_SMALL:
        return None
    found = compare(a, b, whole_to_whole(a.grey.shape, b.grey.shape, flip))
    return found if not found.fit < _FITS else None


def _best_in_small(a: UInt8, b: UInt8, flips: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], float]:
    """The flip under which 32 x 32 levels agree best, and their correlation."""
    small = [cv2.resize(x, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32) for x in (a, b)]
    one, other = (x - x.mean() for x in small)
    norm = float(np.linalg.norm(one) * np.linalg.norm(other)) + 1e-6
    found = [float((one * other[::fy, ::fx]).sum()) / norm for fx, fy in flips]
    best = int(np.argmax(found))
    return flips[best], found[best]


@dataclass(frozen=True, slots=True)
class Windows:
    """Of each window that both cover: contrast of a and b in grey levels, and their best correlation; all (n,)."""

    a: Float32
    b: Float32
    correlation: Float32


def windows(laid: Laid) -> Windows:
    """Windows of WINDOW_PX every STRIDE_PX; b may be a pixel off in each. None where the frame is thinner."""
    if min(laid.a.shape) < WINDOW_PX + 2:
        return Windows(*(np.empty(0, np.float32) for _ in range(3)))
    one, (h, w) = laid.a[1:-1, 1:-1], laid.a.shape
    mean_a, std_a = _means_and_contrasts(one, [(0, 0)], one.shape)
    shifts = [(y, x) for y in range(3) for x in range(3)]
    means, contrasts = _means_and_contrasts(laid.b, shifts, one.shape)
    h, w = ((s - 2) // STRIDE_PX * STRIDE_PX for s in (h, w))
    products = _in_windows([one[:h, :w] * laid.b[y : h + y, x : w + x] for y, x in shifts])
    best = np.max((products - mean_a * means) / (std_a * contrasts + 1e-3), axis=0)
    whole = _in_windows([laid.common[1:-1, 1:-1][:h, :w].astype(np.float32)])[0] > 0.99
    return Windows(std_a[0][whole], contrasts[len(shifts) // 2][whole], best[whole])


def _means_and_contrasts(
    levels: Float32, shifts: Sequence[tuple[int, int]], shape: tuple[int, ...]
) -> tuple[Float32, Float32]:
    """(shifts, rows, columns) of the windows of the part of this shape that begins at each shift (y, x); by sums over
    rectangles."""
    rows, columns = (s // STRIDE_PX for s in shape)
    sums = cv2.integral2(levels, sdepth=cv2.CV_64F, sqdepth=cv2.CV_64F)
    size = WINDOW_PX // STRIDE_PX
    c = np.array([[s[y:, x:][::STRIDE_PX, ::STRIDE_PX][: rows + 1, : columns + 1] for y, x in shifts] for s in sums])
    mean, square = (
        c[..., size:, size:] - c[..., :-size, size:] - c[..., size:, :-size] + c[..., :-size, :-size]
    ) / WINDOW_PX**2
    return mean.astype(np.float32), np.sqrt(np.maximum(square - mean * mean, 0.0)).astype(np.float32)


def _in_windows(planes: Sequence[Float32]) -> Float32:
    """(planes, rows, columns): the mean in each window of planes of whole strides."""
    rows, columns = (s // STRIDE_PX for s in planes[0].shape)
    cells = np.stack([cv2.resize(plane, (columns, rows), interpolation=cv2.INTER_AREA) for plane in planes])
    sums = cells[:, :-1, :-1] + cells[:, 1:, :-1] + cells[:, :-1, 1:] + cells[:, 1:, 1:]
    return np.asarray(sums / 4, np.float32)


def _difference(a: Picture, b: Picture, laid: Laid, found: Windows) -> Difference:
    covered_a, covered_b = _covered(a.grey.shape, b.grey.shape, laid.matrix)
    ground = min(_ground(levels, laid.common) for levels in (laid.a, laid.b))
    return Difference(
        covered_a=covered_a,
        covered_b=covered_b,
        side_px=_side_px(a.grey.shape, b.grey.shape, laid.matrix),
        ground=min(a.ground, b.ground),
        **_of_structure(found, ground),
        **colours.compare(a.small, b.small, _between_small(a, b, laid.matrix)),
    )


def _of_structure(found: Windows, ground: float) -> dict[str, float]:
    """The numbers of Difference that come from windows."""
    is_faint = int((np.maximum(found.a, found.b) > _STRUCTURE).sum()) < MIN_WINDOWS
    least = _FAINT_STRUCTURE if is_faint else _STRUCTURE
    shows_a, shows_b = found.a > least, found.b > least
    both, either, n = shows_a & shows_b, shows_a | shows_b, max(1, len(found.a))
    two_sided, n_structure = both & (found.correlation < _SAME), max(1, int(either.sum()))
    only = [int((x & (y < _FAINT * least)).sum()) for x, y in ((shows_a, found.b), (shows_b, found.a))]
    n_changed = int((two_sided | (either & ~both)).sum())
    exchanged = np.clip((_ALIKE - found.correlation[both]) / (_ALIKE - _UNLIKE), 0.0, 1.0).sum() / n_structure
    return {
        "changed": n_changed / n,
        "two_sided": float(two_sided.sum()) / n,
        "one_sided": min(only) / n_structure,
        "template": 0.0 if is_faint else float(np.sqrt(exchanged)) * ground,
        "agreement": 1 - n_changed / n_structure,
        "fit": float(np.median(found.correlation[both])) if both.sum() >= MIN_WINDOWS else float("nan"),
        "is_faint": float(is_faint),
    }


def _ground(levels: Float32 | UInt8, among: Bools | None = None) -> float:
    """The share of the levels (h, w), or of those `among` them, that lie around one of them."""
    whole = np.clip(levels, 0, 255).astype(np.uint8)
    mask = None if among is None else among.view(np.uint8)
    counts = cv2.calcHist([whole], [0], mask, [256], [0, 256]).ravel().astype(np.float64)  # exact below 2^24
    return float(np.convolve(counts, np.ones(2 * _GROUND + 1), "same").max() / max(1.0, counts.sum()))


def _covered(a: tuple[int, ...], b: tuple[int, ...], matrix: Float64) -> tuple[float, float]:
    """Shares of the area of a that lies on b, and of b that a lies on."""
    moved, still = (np.array([(0, 0), (s[1], 0), (s[1], s[0]), (0, s[0])], np.float64) - 0.5 for s in (a, b))
    moved = moved @ matrix[:, :2].T + matrix[:, 2]
    common, _ = cv2.intersectConvexConvex(moved.astype(np.float32), still.astype(np.float32))
    scale = abs(float(np.linalg.det(matrix[:, :2])))
    return min(common / (scale * a[0] * a[1]), 1.0), min(common / (b[0] * b[1]), 1.0)


def _side_px(a: tuple[int, ...], b: tuple[int, ...], matrix: Float64) -> float:
    """The longest side of what both show, in the pixels of the one that shows it smaller."""
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    return min(max(a) * min(scale, 1.0), max(b) * min(1 / max(scale, 1e-6), 1.0))


def _between_small(a: Picture, b: Picture, matrix: Float64) -> Float64:
    """The map between the small colours of the two."""
    down = np.vstack([whole_to_whole(b.grey.shape, b.small.shape, (1, 1)), (0, 0, 1)])
    up = np.vstack([whole_to_whole(a.small.shape, a.grey.shape, (1, 1)), (0, 0, 1)])
    return np.asarray((down @ np.vstack([matrix, (0, 0, 1)]) @ up)[:2], np.float64)

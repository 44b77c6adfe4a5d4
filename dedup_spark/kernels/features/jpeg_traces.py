"""How strongly a picture was compressed as a JPEG: by the tables of the file, and by the traces that its pixels keep.

A JPEG holds multiples of its quantisation steps as coefficients of 8 x 8 blocks. Pixels that were once decoded from one
keep that lattice: in a lossless file its steps are seen in the coefficients (Fan and de Queiroz, "Identification of
bitmap compression history", 2003), and in a JPEG with finer steps as values that never occur (Lukas and Fridrich,
"Estimation of primary quantization matrix in double compressed JPEG images", 2003). So a lossless export or a second
JPEG tells that it is not what the camera wrote, and how good the first one was.
"""

from __future__ import annotations

import functools

import numpy as np
from PIL import Image

from dedup_spark.kernels.arrays import Float32, Float64, Int64, UInt8, expect

SAMPLE_PX = 256
"""Side of the part of a picture that is looked at: 1,024 blocks."""
LOSSLESS_SAMPLE_PX = 512
"""The same for lossless files, whose traces are fainter: rounding to levels hides the steps of good JPEGs."""
_FREQUENCIES = (
    (0, 1), (1, 0), (2, 0), (1, 1), (0, 2), (0, 3), (1, 2), (2, 1), (3, 0), (2, 2), (3, 1), (1, 3), (4, 0), (0, 4),
    (3, 2), (2, 3), (4, 1), (1, 4), (3, 3), (4, 2), (2, 4), (0, 5), (5, 0), (1, 5), (5, 1), (3, 4), (4, 3), (0, 6),
    (6, 0), (2, 5),
)  # fmt: skip
"""(row, column) of the coefficients used: above them most are zero in any JPEG."""
_PLACES = np.array([8 * u + v for u, v in _FREQUENCIES])
N_FREQUENCIES = len(_FREQUENCIES)
_STANDARD = np.array([
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51,
    87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
])  # fmt: skip
"""The luminance table of ITU T.81, annex K, at quality 50."""

_STEPS = np.arange(2, 33, dtype=np.float32)
_LEAST_COSINE, _LEAST_DEVIATIONS = 0.25, 6.0
_LEAST_MISSING, _MOST_FOUND = 20, 0.3
_LEAST_FREQUENCIES = 2
_MAX_STEP, _MAX_VALUE, _AMBIGUOUS = 40, 48, 0.15
_LEAST_RANGE = 24
_BLOCK_PX = 8


def quality_of_table(table: Int64) -> float:
    """The quality 1 to 100 by libjpeg's scale at which the standard table has steps like (64,) `table`, on average.

    For a table that is none of libjpeg's, such as a camera's, it is the nearest in strength.
    """
    expect(table=(table, "64", np.int64))
    return _quality(100.0 * float(table.mean()) / float(_STANDARD.mean()))


def earlier_quality(sample: Image.Image, table: Int64 | None) -> float | None:
    """The quality of an earlier JPEG compression whose traces the picture carries; None where there are none.

    Args:
        sample: 8-bit part of the picture as stored (not turned upright), in which blocks begin at the left and top edge
            if the picture has a JPEG file's own grid; see SAMPLE_PX.
        table: the quantisation table (64,) of the JPEG file that the sample comes from; None for a lossless file, whose
            earlier grid is searched for.
    Cost: about 0.3 ms for a JPEG file.
    """
    if table is not None:
        return hidden_quality(block_sizes(sample), table)
    luma = _luma(sample, is_exact=True)
    if min(luma.shape) < 2 * _BLOCK_PX:
        return None
    found = _quality_of_steps(visible_steps(_coefficients(luma)))
    left, top = _grid(luma) if found is None else (0, 0)  # a crop has lost the first rows and columns
    return _quality_of_steps(visible_steps(_coefficients(luma[top:, left:]))) if left or top else found


def hidden_quality(sizes: Float32, table: Int64) -> float | None:
    """`earlier_quality` of a JPEG file, by the `block_sizes` of its sample."""
    expect(sizes=(sizes, "r c f", np.float32), table=(table, "64", np.int64))
    if min(sizes.shape[:2]) < 2:
        return None
    return _quality_of_steps(_hidden_steps(sizes.reshape(-1, N_FREQUENCIES), table))


def block_sizes(sample: Image.Image) -> Float32:
    """(rows, columns, N_FREQUENCIES): the coefficients of all whole blocks, without sign; luma is rounded to levels."""
    luma = _luma(sample, is_exact=False)
    return _coefficients(luma).reshape(luma.shape[0] // _BLOCK_PX, luma.shape[1] // _BLOCK_PX, N_FREQUENCIES)


def steps_of(table: Int64) -> Int64:
    """(N_FREQUENCIES,) the steps of a table (64,) at the frequencies that are looked at."""
    expect(table=(table, "64", np.int64))
    return table[_PLACES]


def _luma(sample: Image.Image, is_exact: bool) -> Float32 | UInt8:
    """Luma, (h, w); rounded to levels unless it must be exact."""
    if not is_exact:
        return np.asarray(sample.convert("L"))
    return np.asarray(sample.convert("RGB"), np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)


def _quality(scale_percent: float) -> float:
    """The inverse of libjpeg's jpeg_quality_scaling."""
    quality = 100 - scale_percent / 2 if scale_percent <= 100 else 5000 / scale_percent
    return float(min(max(quality, 1.0), 100.0))


def _quality_of_steps(steps: dict[int, int]) -> float | None:
    """By the median over the frequencies (by index) in which steps were found."""
    if len(steps) < _LEAST_FREQUENCIES:
        return None
    return _quality(float(np.median([100.0 * step / _STANDARD[_PLACES[i]] for i, step in steps.items()])))


@functools.cache
def _basis() -> Float32:
    """(64, frequencies): the orthonormal cosine transform of a row-major block."""
    k = np.arange(8)
    waves = np.sqrt(2 / 8) * np.cos(np.pi * (2 * k[None] + 1) * k[:, None] / 16)
    waves[0] /= np.sqrt(2)
    return np.stack([np.outer(waves[u], waves[v]).ravel() for u, v in _FREQUENCIES], 1).astype(np.float32)


def _coefficients(luma: Float32 | UInt8) -> Float32:
    """(blocks, frequencies): their sizes, without sign."""
    high, wide = (n // 8 for n in luma.shape)
    blocks = luma[: 8 * high, : 8 * wide].reshape(high, 8, wide, 8).swapaxes(1, 2).reshape(-1, 64)
    found: Float32 = blocks.astype(np.float32, copy=False) @ _basis()
    return np.abs(found, out=found)


def _grid(luma: Float32 | UInt8) -> tuple[int, int]:
    """(left, top), 0 to 7: where the blocks of an earlier JPEG begin, by the steps in brightness at their edges."""
    offsets = []
    for values in (luma, luma.T):
        across = np.abs(values[:, :-3] - 3 * values[:, 1:-2] + 3 * values[:, 2:-1] - values[:, 3:])
        edges = np.minimum(across, 32).mean(axis=0)  # edges[j]: between columns j + 1 and j + 2
        strength = [edges[(offset - 2) % 8 :: 8].mean() for offset in range(8)]
        offsets.append(int(np.argmax(strength)))
    return offsets[0], offsets[1]


def visible_steps(sizes: Float32) -> dict[int, int]:
    """Step by frequency, where the coefficients lie on a lattice: their mean cosine of 2 pi size / step is high.

    Sizes below half a step belong to the zeros, and say nothing.
    """
    steps = {}
    for i in range(sizes.shape[1]):
        column = sizes[:, i][sizes[:, i] > 1][:, None]
        counts = column > _STEPS / 2
        n = counts.sum(axis=0)
        cosine = (np.cos(2 * np.pi * column / _STEPS) * counts).sum(axis=0) / np.maximum(n, 1)
        fits = (cosine >= _LEAST_COSINE) & (cosine * np.sqrt(2 * n) >= _LEAST_DEVIATIONS)
        if fits.any():
            steps[i] = int(_STEPS[np.flatnonzero(fits & (cosine >= 0.6 * cosine[fits].max()))[-1]])
    return steps


def _hidden_steps(sizes: Float32, table: Int64) -> dict[int, int]:
    """Coarser step by frequency of an earlier compression, where values that it cannot have given do not occur.

    After one compression smaller values are more frequent than larger ones. A value is missing where it is much rarer
    than the next one that the earlier step can give.
    """
    steps, table = dict[int, int](), table[_PLACES]
    counts = _counts(sizes, table)
    for own in {own for own in table.tolist() if 0 < own <= _MAX_STEP}:
        frequencies = np.flatnonzero(table == own)
        both = counts[frequencies] @ _gaps(own)
        found, expected = both[:, : both.shape[1] // 2], both[:, both.shape[1] // 2 :]
        fits = (expected >= _LEAST_MISSING) & (found < _MOST_FOUND * expected)
        for row, place in np.argwhere(fits).tolist() if fits.any() else ():
            # the last one stays: what cannot come of 8 cannot come of 4
            steps[int(frequencies[row])] = own + 1 + place
    return steps


def _counts(sizes: Float32, table: Int64) -> Float64:
    """(frequencies, values): how often each value below _MAX_VALUE occurs; float64 for a product of matrices, exact."""
    steps = np.maximum(table, 1).astype(np.float32)  # damaged files have steps of 0
    exact = sizes / steps
    values = np.minimum(np.rint(exact, out=exact), _MAX_VALUE, out=exact).astype(np.int64)
    width = _MAX_VALUE + 1
    values += width * np.arange(values.shape[1])
    counted = np.bincount(values.ravel(), minlength=width * values.shape[1]).reshape(-1, width)
    return counted[:, :_MAX_VALUE].astype(np.float64)


@functools.lru_cache(_MAX_STEP)
def _gaps(own: int) -> Float64:
    """(values, 2 x steps) for the steps from own + 1 on: which values an earlier step cannot give; and how often each
    value is the next one that it can give."""
    gaps = [_gaps_of(step / own) for step in range(own + 1, max(4 * own, _LEAST_RANGE) + 1)]
    return np.ascontiguousarray(np.concatenate(np.stack(gaps, axis=1)).T)


def _gaps_of(ratio: float) -> Float64:
    exact = np.arange(int(2 * _MAX_VALUE / ratio) + 2) * ratio
    near = np.concatenate([np.rint(exact + shift) for shift in (-_AMBIGUOUS, 0.0, _AMBIGUOUS)]).astype(np.int64)
    possible = np.zeros(2 * _MAX_VALUE, bool)
    possible[near[(near >= 0) & (near < len(possible))]] = True
    after = np.searchsorted(np.flatnonzero(possible), np.arange(_MAX_VALUE))
    following = np.flatnonzero(possible)[np.minimum(after, possible.sum() - 1)]
    counted = ~possible[:_MAX_VALUE] & (following < _MAX_VALUE)
    counted[0] = False
    expected = np.bincount(following[counted], minlength=_MAX_VALUE)[:_MAX_VALUE]
    return np.stack([counted.astype(np.float64), expected.astype(np.float64)])

"""Which of two files of one size was made from the other: by their coefficients, block by block.

Saving a picture as a JPEG is exact: each coefficient of the copy is that of its source, rounded to the copy's steps.
So the copy of a JPEG with coarse steps, saved with finer ones, holds values near multiples of the coarse steps alone,
while the source of a coarser copy holds all values in between. For both directions the likelihood of what the two files
hold is computed,

    log p(source's values) + log p(copy's values | source's values),

the first by a Laplace distribution about zero (Lam and Goodman, "A mathematical analysis of the DCT coefficient
distributions for images", 2000) whose scale both directions share, the second by rounding after noise of a level, as of
rounding to colours. The difference is the evidence, in nats.

What the original inherited from still earlier files is in both and says nothing. So a file with fine steps whose values
lie on a coarser lattice has two explanations: a file of the group, or one that is not there. The second one pays for
naming each step; it is the likelier one where no table of the group gives just these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtr

from dedup_spark.kernels.arrays import Bools, Float64, Int64, expect
from dedup_spark.kernels.features import block_sample
from dedup_spark.kernels.features.jpeg_traces import N_FREQUENCIES, visible_steps

_NOISE_LEVELS = (0.4, 1.0, 2.5)
"""Standard deviations of coefficients: of rounding once to 8-bit colours, of colours that were clipped here and there
or rounded several times, and of a good WebP or a conversion of colours in between."""
_OUTLIERS = 0.005
_LEAST_NATS = 25.0
_LEAST_FIT, _LEAST_COARSER_FIT, _FITS, _FIT_NOISE = 0.9, 0.985, 0.02, 1.0
"""So large a share of the coefficients that say something must be what rounding gives, each with that probability at
that level of noise. Of direct copies with finer steps than their source 95 % or more are, with coarser steps 99 %:
these say less, and 97 % would fit a good WebP of the file with the coarse steps, too. Of copies of a strongly
compressed one that is not there 60 % fit at most."""
_WORSE_FIT = 0.025
"""So much less of them may fit one way than the other: where the likelihood and the fits point apart, as in pictures of
few details, it cannot be told."""
_STEP_NATS, _INHERITED_NOISE, _OFF_LATTICE = 3.5, 0.5, 1e-4
"""Of naming one of some thirty steps; standard deviation about the lattice, and the share of values anywhere."""
_LEAST_SCALE, _LEAST_MEAN, _LEAST_ACTIVITY = 0.3, 0.2, 0.05
_MAX_FILES = 32
"""Of one size that all others are compared with: those with the finest steps."""


@dataclass(frozen=True, slots=True)
class Descent:
    """(n,): whether a file was made from another one of the group; whether it was not, and another was made from it."""

    is_made_from_another: Bools
    has_copies: Bools


@dataclass(frozen=True, slots=True)
class _Sample:
    """(f,) steps, (blocks, f) values in these steps; (f,) `inherited` coarser steps on whose multiples the values lie,
    0 where none are seen."""

    steps: Float64
    values: Int64
    inherited: Float64


def find_copies(samples: Sequence[bytes | None], grids: Int64) -> Descent:
    """Compare all files whose blocks lie at the same places.

    Args:
        samples: (n) of `block_sample.pack`, or None.
        grids: (n, g) what must be equal for that: width, height and orientation.
    Cost: about 1 ms per pair of files of one size, of at most 32 with each other and with the rest.
    """
    expect(grids=(grids, "n g", np.int64))
    made, source = np.zeros(len(samples), bool), np.zeros(len(samples), bool)
    known = {k: _unpacked(data) for k, data in enumerate(samples) if data}
    by_grid: dict[tuple[int, ...], list[int]] = {}
    for k in sorted(known, key=lambda k: (known[k].steps.mean(), k)):
        by_grid.setdefault(tuple(grids[k].tolist()), []).append(k)
    for files in by_grid.values():
        for place, a in enumerate(files[:_MAX_FILES]):
            for b in files[place + 1 :]:
                order = direction(known[a], known[b])
                copy, of = (b, a) if order > 0 else (a, b)
                made[copy] |= order != 0
                source[of] |= order != 0
    return Descent(made, source & ~made)


def _unpacked(data: bytes) -> _Sample:
    steps, values = block_sample.unpack(data, N_FREQUENCIES)
    inherited = np.zeros(len(steps))
    sizes = np.where(values == block_sample.LOST, 0, values * steps).astype(np.float32)
    for frequency, step in visible_steps(sizes).items():
        inherited[frequency] = step if step > steps[frequency] else 0
    return _Sample(steps.astype(np.float64), values, inherited)


def direction(a: _Sample, b: _Sample) -> int:
    """1 where `b` was made from `a`, -1 where `a` was made from `b`, 0 where it cannot be told."""
    if len(a.values) != len(b.values):
        return 0
    both = (a.values != block_sample.LOST).all(axis=1) & (b.values != block_sample.LOST).all(axis=1)
    a, b = (replace(x, values=x.values[both]) for x in (a, b))
    scale = _scale(a, b)
    forth, fits_forth = _likelihood(a, b, scale)
    back, fits_back = _likelihood(b, a, scale)
    if forth - back > _LEAST_NATS and fits_forth > _least_fit(a, b, fits_back):
        return 1
    return -1 if back - forth > _LEAST_NATS and fits_back > _least_fit(b, a, fits_forth) else 0


def _least_fit(source: _Sample, copy: _Sample, other_way: float) -> float:
    least = _LEAST_COARSER_FIT if copy.steps.mean() > source.steps.mean() else _LEAST_FIT
    return max(least, other_way - _WORSE_FIT)


def _scale(a: _Sample, b: _Sample) -> Float64:
    """(blocks, f) of the Laplace distributions: of a frequency, times how busy a block is."""
    size = (a.values * a.steps + b.values * b.steps) / 2
    of_frequency = size.mean(axis=0) + _LEAST_MEAN if len(size) else np.ones(size.shape[1])
    busy = (size / of_frequency).mean(axis=1, keepdims=True) + _LEAST_ACTIVITY
    return np.asarray(np.maximum(of_frequency * busy, _LEAST_SCALE), np.float64)


def _likelihood(source: _Sample, copy: _Sample, scale: Float64) -> tuple[float, float]:
    """Log likelihood of both, if `copy` was made from `source`, at the best level of noise; and the share of the
    coefficients, not zero in both, that fit."""
    by_chance = _OUTLIERS * _prior(copy.values, copy.steps, scale)
    sizes = source.values * source.steps
    of_copy = (np.log((1 - _OUTLIERS) * _rounded(sizes, copy, x) + by_chance).sum() for x in _NOISE_LEVELS)
    says_something = (source.values > 0) | (copy.values > 0)
    fits = _rounded(sizes, copy, _FIT_NOISE)[says_something] > _FITS
    return _log_prior(source, scale) + float(max(of_copy)), float(fits.mean()) if len(fits) else 0.0


def _log_prior(sample: _Sample, scale: Float64) -> float:
    """Of all values; of a frequency with inherited steps as rounded to these, then to its own, if that is likelier."""
    plain = np.log(_prior(sample.values, sample.steps, scale)).sum(axis=0)
    old = np.maximum(sample.inherited, 1)
    earlier = np.rint(sample.values * sample.steps / old)
    rounded = _rounded(earlier * old, sample, _INHERITED_NOISE)
    twice = np.log(_prior(earlier, old, scale) * rounded + _OFF_LATTICE * np.exp(-sample.values * sample.steps / scale))
    return float(np.where(sample.inherited > 0, np.maximum(plain, twice.sum(axis=0) - _STEP_NATS), plain).sum())


def _rounded(sizes: Float64, copy: _Sample, noise: float) -> Float64:
    """(blocks, f) the probability that the copy's values come of coefficients of these sizes. Neither has signs: both
    directions leave out the same."""
    ends = [((copy.values + shift) * copy.steps - sizes) / noise for shift in (-0.5, 0.5)]
    return np.asarray(ndtr(ends[1]) - ndtr(ends[0]), np.float64)


def _prior(values: Float64 | Int64, steps: Float64, scale: Float64) -> Float64:
    """(blocks, f) the probability of values in these steps by their Laplace distributions."""
    share = steps / scale
    tail = 0.5 * np.exp(-(np.maximum(values, 1) - 0.5) * share) * -np.expm1(-share)
    return np.asarray(np.where(values == 0, -np.expm1(-share / 2), tail) + 1e-9, np.float64)

"""How precision and recall move with a cut: expected from copy probabilities, or counted on labelled pairs. No Spark.

A curve that is expected rests on the calibration: among pairs of copy probability p a share p are copies. One that is
counted rests on the pairs that somebody labelled, and on how they were chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dedup_spark.kernels.arrays import Float64, expect

_ROUNDING = 1e-6
"""Added to each cut: probabilities are stored as float32, and a pair at the cut counts."""


@dataclass(frozen=True)
class Point:
    """At one cut: the pairs that it joins, and their precision and recall; None where there is nothing to divide by."""

    cut: float
    n_pairs: int
    precision: float | None
    recall: float | None


@dataclass(frozen=True)
class Curve:
    """Points by ascending cut: a larger one joins more.

    Attributes:
        title: Of which pairs it is.
        axis: What the cut is, with its unit.
        rests_on: What the values rest on and what they leave out, in words.
        used: The cut of the run, one of the points.
        points: Some twenty.
    """

    title: str
    axis: str
    rests_on: str
    used: float
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Scored:
    """Pairs by the height at which they are joined, inf where no cut joins them: (k,) heights, how many pairs have each
    (`n_pairs`), and how many of these are copies, counted or expected (`n_copies`)."""

    height: Float64
    n_pairs: Float64
    n_copies: Float64

    @classmethod
    def each(cls, height: Float64, copies: Float64) -> Scored:
        """One pair a row: `copies` is the probability that it is a copy, or 1 and 0 by its label."""
        return cls(height, np.ones(len(height)), copies)


def points_of(scored: Scored, cuts: Sequence[float]) -> tuple[Point, ...]:
    """Precision and recall of the pairs that each cut joins: those whose height is not above it."""
    k = "k"
    expect(
        height=(scored.height, k, np.float64),
        n=(scored.n_pairs, k, np.float64),
        copies=(scored.n_copies, k, np.float64),
    )
    order = np.argsort(scored.height, kind="stable")
    pairs, copies = (np.concatenate([[0.0], np.cumsum(x[order])]) for x in (scored.n_pairs, scored.n_copies))
    last = np.searchsorted(scored.height[order], np.asarray(cuts, np.float64) + _ROUNDING, side="right")
    return tuple(
        Point(
            float(cut),
            round(pairs[i]),
            float(copies[i] / pairs[i]) if pairs[i] else None,
            float(copies[i] / copies[-1]) if copies[-1] else None,
        )
        for cut, i in zip(cuts, last.tolist(), strict=True)
    )


def even_cuts(most: float, used: float) -> list[float]:
    """Twenty even steps up to `most`, and the cut that was used."""
    return sorted({*np.linspace(most / 20, most, 20).round(6).tolist(), used})


def cuts_near_zero(used: float) -> list[float]:
    """Cuts of 1 - probability, closer together where probabilities are near 1, and the cut that was used."""
    probabilities = (0.9999, 0.9995, 0.999, 0.998, 0.995, 0.99, 0.98, 0.97, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.3, 0.1)
    steps = [round(1 - p, 6) for p in probabilities]
    return sorted([used, *(cut for cut in steps if abs(cut - used) > _ROUNDING)])

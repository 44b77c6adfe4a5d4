"""Sign sketches: the signs of a random rotation of a unit vector, compared by Hamming distance.

Two vectors at angle a differ in each bit with probability a / pi (Goemans and Williamson 1995; Charikar, STOC
2002), so a cosine becomes a Hamming radius with a known recall, and a comparison costs a few XORs. Few bits are
quick but let negatives pass (pairs of unlike images), many are slow: `choose_filter` finds the cheapest number for the
vectors at hand.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from dedup_spark.kernels.arrays import Float16, Float32, UInt8, expect

FIRST_BITS = (128, 160, 256, 512)
"""Sketch lengths for which FAISS has compiled loops; others are four times as slow (measured: 192, 1024)."""

_REST_BITS = (0, 128, 256, 512)

MOST_BITS = FIRST_BITS[-1] + _REST_BITS[-1]
"""Of any filter: a sketch of so many bits begins with the sketches of all others, as their rotations begin alike."""

_MIN_SAMPLE, _ENOUGH_SAMPLE = 64, 1_000  # vectors from which the cosines of negatives can be measured, and well enough


@dataclass(frozen=True)
class SketchFilter:
    """Which sketches are near: their first bits within one radius, then first and rest together within another."""

    first_bits: int
    rest_bits: int
    first_radius: int
    radius: int

    @property
    def n_bits(self) -> int:
        return self.first_bits + self.rest_bits


@dataclass(frozen=True)
class CosineHistogram:
    """Cosines of random pairs: midpoints of bins and the share of pairs in each."""

    cosines: tuple[float, ...]
    shares: tuple[float, ...]

    @classmethod
    def of(cls, cosines: npt.ArrayLike) -> CosineHistogram:
        """Of a sample, in 200 bins."""
        counts, edges = np.histogram(np.clip(cosines, -1, 1), bins=200, range=(-1, 1))
        held = np.flatnonzero(counts)
        middle, share = (edges[:-1] + edges[1:])[held] / 2, counts[held] / max(1, counts.sum())
        return cls(tuple(middle.tolist()), tuple(share.tolist()))

    def share_above(self, cosine: float) -> float:
        """Share of random pairs with at least this cosine."""
        return sum(share for middle, share in zip(self.cosines, self.shares, strict=True) if middle >= cosine)


NEGATIVES = CosineHistogram.of([NormalDist(0.03, 0.06).inv_cdf(q) for q in np.linspace(0.0005, 0.9995, 1000)])
"""Where nothing was measured: SSCD embeddings of unlike photos (mean 0.03, standard deviation 0.06)."""


@dataclass(frozen=True)
class SketchCosts:
    """Nanoseconds per pair on one core.

    `first` to compare it in each of FIRST_BITS; `kept` to keep it where it passed; `word` to compare 64 bits more of
    it; `score` to compute its cosine. Measured with 1,024 x 8,192 sketches, 0.1 to 10 % of which passed: 15 to 25 to
    keep one, 7, 12 and 22 to 50 for 128, 256 and 512 bits more.
    """

    first: tuple[float, ...] = (0.8, 1.15, 1.4, 2.7)
    kept: float = 18.0
    word: float = 4.0
    score: float = 1000.0


def negatives_of(vectors: Float16) -> CosineHistogram:
    """Cosines of every two of a random sample (n, d) of unit vectors: nearly all of them are negatives.

    Of a larger sample at most _ENOUGH_SAMPLE rows count, evenly spaced. NEGATIVES where there are fewer than
    _MIN_SAMPLE.
    """
    expect(vectors=(vectors, "n d", np.float16))
    if len(vectors) < _MIN_SAMPLE:
        return NEGATIVES
    x = vectors[:: -(-len(vectors) // _ENOUGH_SAMPLE)].astype(np.float32)
    return CosineHistogram.of((x @ x.T)[np.triu_indices(len(x), 1)])


def choose_filter(
    demands: Iterable[tuple[float, float]],
    negatives: CosineHistogram = NEGATIVES,
    costs: SketchCosts = SketchCosts(),
) -> SketchFilter:
    """The cheapest filter that keeps, of the pairs at each cosine, the share asked for.

    `demands` are (cosine, recall). Either stage may miss a pair, so each is allowed half of the misses. Callers leave
    `costs` at the constants of the class rather than at those measured in a run, so that the same sample gets the same
    filter whatever the clock says.
    """
    asked, choices = list(demands), []
    for first_bits, rest_bits in itertools.product(FIRST_BITS, _REST_BITS):
        each = [(cosine, 1 - (1 - recall) / (2 if rest_bits else 1)) for cosine, recall in asked]
        first_radius = max(radius_bits(first_bits, *demand) for demand in each)
        radius = max(radius_bits(first_bits + rest_bits, *demand) for demand in each)
        choices.append(SketchFilter(first_bits, rest_bits, first_radius, radius))
    return min(choices, key=lambda choice: (filter_cost(choice, negatives, costs), choice.n_bits))


def filter_cost(sketch_filter: SketchFilter, negatives: CosineHistogram, costs: SketchCosts) -> float:
    """Nanoseconds per pair on one core, the scoring of what passes included."""
    passed = passing_share(sketch_filter.first_bits, sketch_filter.first_radius, negatives)
    scored = min(passed, passing_share(sketch_filter.n_bits, sketch_filter.radius, negatives))
    first = costs.first[FIRST_BITS.index(sketch_filter.first_bits)]
    return first + passed * (costs.kept + costs.word * sketch_filter.rest_bits / 64) + scored * costs.score


def passing_share(n_bits: int, radius: int, negatives: CosineHistogram) -> float:
    """Share of random pairs that differ in at most `radius` of `n_bits`; the binomial by its normal approximation."""
    p = np.arccos(np.array(negatives.cosines)) / math.pi
    deviation = np.sqrt(np.maximum(n_bits * p * (1 - p), 1e-9))
    below = [NormalDist().cdf(z) for z in ((radius + 0.5 - n_bits * p) / deviation).tolist()]
    return float(np.dot(below, negatives.shares))


def radius_bits(n_bits: int, min_similarity: float, min_recall: float) -> int:
    """Hamming radius that keeps at least `min_recall` of the pairs exactly at `min_similarity`.

    Of the pairs above the threshold a larger share is kept. The bits of an orthogonal rotation are negatively
    correlated, so the binomial deviation used here is an upper bound.
    """
    p = math.acos(min(1.0, min_similarity)) / math.pi
    z = NormalDist().inv_cdf(min_recall)
    return min(n_bits, math.ceil(n_bits * p + z * math.sqrt(n_bits * p * (1 - p))) + 1)


def rotation(n_dimensions: int, n_bits: int, seed: int) -> Float32:
    """(n_dimensions, n_bits) float32: blocks of `n_dimensions` orthonormal columns, each drawn independently."""
    n_blocks = -(-n_bits // n_dimensions)
    n_columns = min(n_dimensions, max(n_bits, MOST_BITS))
    return _rotations(n_dimensions, n_blocks, n_columns, seed)[:, :n_bits]


@functools.lru_cache(maxsize=4)
def _rotations(n_dimensions: int, n_blocks: int, n_columns: int, seed: int) -> Float32:
    """Cached, whatever the number of bits: a block takes 0.1 s at 512 dimensions.

    The first columns of a rotation do not depend on the others, which beyond `n_columns` nobody uses: at 4,096
    dimensions 2 s in place of 25, and at 8,192 some 10.
    """
    rng = np.random.default_rng(seed)
    blocks = []
    for _ in range(n_blocks):
        q, r = np.linalg.qr(rng.standard_normal((n_dimensions, n_dimensions))[:, :n_columns])
        blocks.append(q * np.sign(np.diag(r)))  # Haar-distributed: Mezzadri, Notices of the AMS 2007
    return np.concatenate(blocks, axis=1).astype(np.float32)


def make_sketches(vectors: Float32, n_bits: int, seed: int) -> UInt8:
    """(n, d) float32 to (n, n_bits / 8) uint8. `n_bits` is a multiple of 8."""
    expect(vectors=(vectors, "n d", np.float32))
    return np.packbits(vectors @ rotation(vectors.shape[1], n_bits, seed) > 0, axis=1)

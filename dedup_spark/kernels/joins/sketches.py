"""Sign sketches: the signs of a random rotation of a unit vector, compared by Hamming distance.

Two vectors at angle a differ in each bit with probability a / pi (Goemans and Williamson 1995; Charikar, STOC
2002), so a cosine becomes a Hamming radius with a known recall, and a comparison costs a few XORs. Few bits are
quick but let strangers pass, many are slow: `choose_look` weighs that for the vectors at hand.
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

Floats = npt.NDArray[np.float32]
Sketches = npt.NDArray[np.uint8]

FIRST_BITS = (128, 160, 256, 512)
"""Sketch lengths for which FAISS has compiled loops; others are four times as slow (measured: 192, 1024)."""

_REST_BITS = (0, 128, 256, 512)

_FEW, _MANY = 64, 1_000  # vectors that say something of strangers, and that say enough


@dataclass(frozen=True)
class Look:
    """How sketches are compared: on the first bits within one radius, then on first and rest within another."""

    first_bits: int
    rest_bits: int
    first_radius: int
    radius: int

    @property
    def n_bits(self) -> int:
        return self.first_bits + self.rest_bits


@dataclass(frozen=True)
class Spread:
    """Cosines of random pairs: midpoints of bins and the share of pairs in each."""

    cosines: tuple[float, ...]
    shares: tuple[float, ...]

    @classmethod
    def of(cls, cosines: npt.ArrayLike) -> Spread:
        """Of a sample, in 200 bins."""
        counts, edges = np.histogram(np.clip(cosines, -1, 1), bins=200, range=(-1, 1))
        held = np.flatnonzero(counts)
        middle, share = (edges[:-1] + edges[1:])[held] / 2, counts[held] / max(1, counts.sum())
        return cls(tuple(middle.tolist()), tuple(share.tolist()))


STRANGERS = Spread.of([NormalDist(0.03, 0.06).inv_cdf(q) for q in np.linspace(0.0005, 0.9995, 1000)])
"""Where nothing was measured: SSCD embeddings of unlike photos (mean 0.03, deviation 0.06)."""


@dataclass(frozen=True)
class SketchCosts:
    """Nanoseconds on one core: a pair at each of FIRST_BITS; to keep one that passed; 64 bits more of it; a score.

    Measured with 1,024 x 8,192 sketches, 0.1 to 10 % of which passed: 15 to 25 to keep one, 7, 12 and 22 to 50 for 128,
    256 and 512 bits more.
    """

    first: tuple[float, ...] = (0.8, 1.15, 1.4, 2.7)
    kept: float = 18.0
    word: float = 4.0
    score: float = 1000.0


def strangers_of(vectors: npt.NDArray[np.float16]) -> Spread:
    """Cosines of every two of a random sample (n, d) of unit vectors: nearly all of them of strangers.

    Of a larger sample at most _MANY rows count, as even steps pick them. STRANGERS where there are fewer than _FEW.
    """
    if len(vectors) < _FEW:
        return STRANGERS
    x = vectors[:: -(-len(vectors) // _MANY)].astype(np.float32)
    return Spread.of((x @ x.T)[np.triu_indices(len(x), 1)])


def choose_look(
    demands: Iterable[tuple[float, float]], strangers: Spread = STRANGERS, costs: SketchCosts = SketchCosts()
) -> Look:
    """The cheapest look that keeps, of the pairs at each cosine, the share asked for.

    `demands` are (cosine, recall). A miss may come from either look, so each gets half of the misses allowed. By the
    costs of the class, not by those measured in a run: the same sample gets the same look whatever the clock says.
    """
    asked, choices = list(demands), []
    for first_bits, rest_bits in itertools.product(FIRST_BITS, _REST_BITS):
        each = [(cosine, 1 - (1 - recall) / (2 if rest_bits else 1)) for cosine, recall in asked]
        first_radius = max(radius_bits(first_bits, *demand) for demand in each)
        radius = max(radius_bits(first_bits + rest_bits, *demand) for demand in each)
        choices.append(Look(first_bits, rest_bits, first_radius, radius))
    return min(choices, key=lambda look: (look_cost(look, strangers, costs), look.n_bits))


def look_cost(look: Look, strangers: Spread, costs: SketchCosts) -> float:
    """Nanoseconds a pair on one core."""
    passed = passing_share(look.first_bits, look.first_radius, strangers)
    scored = min(passed, passing_share(look.n_bits, look.radius, strangers))
    first = costs.first[FIRST_BITS.index(look.first_bits)]
    return first + passed * (costs.kept + costs.word * look.rest_bits / 64) + scored * costs.score


def passing_share(n_bits: int, radius: int, spread: Spread) -> float:
    """Share of random pairs within `radius` of `n_bits`; the binomial by its normal approximation."""
    p = np.arccos(np.array(spread.cosines)) / math.pi
    deviation = np.sqrt(np.maximum(n_bits * p * (1 - p), 1e-9))
    below = [NormalDist().cdf(z) for z in ((radius + 0.5 - n_bits * p) / deviation).tolist()]
    return float(np.dot(below, spread.shares))


def radius_bits(n_bits: int, min_similarity: float, min_recall: float) -> int:
    """Hamming radius that keeps at least `min_recall` of the pairs exactly at `min_similarity`.

    Pairs above the threshold are kept with a higher share. The bits of an orthogonal rotation are negatively
    correlated, so the binomial deviation used here is an upper bound.
    """
    p = math.acos(min(1.0, min_similarity)) / math.pi
    z = NormalDist().inv_cdf(min_recall)
    return min(n_bits, math.ceil(n_bits * p + z * math.sqrt(n_bits * p * (1 - p))) + 1)


def rotation(n_dimensions: int, n_bits: int, seed: int) -> Floats:
    """(n_dimensions, n_bits) float32: orthonormal columns, drawn anew for each `n_dimensions` columns."""
    n_blocks = -(-n_bits // n_dimensions)
    return _rotations(n_dimensions, n_blocks, seed)[:, :n_bits]


@functools.lru_cache(maxsize=4)
def _rotations(n_dimensions: int, n_blocks: int, seed: int) -> Floats:
    """Kept for all numbers of bits: one takes 0.1 s at 512 dimensions."""
    rng = np.random.default_rng(seed)
    blocks = []
    for _ in range(n_blocks):
        q, r = np.linalg.qr(rng.standard_normal((n_dimensions, n_dimensions)))
        blocks.append(q * np.sign(np.diag(r)))  # Haar-distributed: Mezzadri, Notices of the AMS 2007
    return np.concatenate(blocks, axis=1).astype(np.float32)


def make_sketches(vectors: Floats, n_bits: int, seed: int) -> Sketches:
    """(n, d) float32 to (n, n_bits / 8) uint8. `n_bits` is a multiple of 8."""
    return np.packbits(vectors @ rotation(vectors.shape[1], n_bits, seed) > 0, axis=1)

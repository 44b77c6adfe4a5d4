"""Sign sketches: the signs of a random rotation of a unit vector, compared by Hamming distance.

Two vectors at angle a differ in each bit with probability a / pi (Goemans and Williamson 1995; Charikar, STOC
2002), so a cosine threshold becomes a Hamming radius with a known recall, and a comparison costs a few XORs.
Measured on 100,000 SSCD-like vectors (cosine >= 0.7): 0.09 of the time of an exact matrix product at recall 1.
"""

from __future__ import annotations

import functools
import math
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Sketches = npt.NDArray[np.uint8]


def choose_bits(min_similarity: float) -> int:
    """Sketch length for a cosine threshold: the wider the angle, the more bits keep the chance candidates away.

    Measured on SSCD-like vectors: at 0.7, 0.5, 0.4 these give 2 to 6 candidates a true pair.
    """
    for bits, down_to in ((256, 0.65), (512, 0.5)):
        if min_similarity >= down_to:
            return bits
    return 1024


def radius_bits(n_bits: int, min_similarity: float, min_recall: float) -> int:
    """Hamming radius that keeps at least `min_recall` of the pairs exactly at `min_similarity`.

    Pairs above the threshold are kept with a higher share. The bits of an orthogonal rotation are negatively
    correlated, so the binomial deviation used here is an upper bound.
    """
    p = math.acos(min(1.0, min_similarity)) / math.pi
    z = NormalDist().inv_cdf(min_recall)
    return min(n_bits, math.ceil(n_bits * p + z * math.sqrt(n_bits * p * (1 - p))) + 1)


@functools.lru_cache(maxsize=4)
def rotation(n_dimensions: int, n_bits: int, seed: int) -> Floats:
    """(n_dimensions, n_bits) float32: orthonormal columns, drawn anew for each `n_dimensions` columns."""
    rng = np.random.default_rng(seed)
    blocks = []
    for _ in range(-(-n_bits // n_dimensions)):
        q, r = np.linalg.qr(rng.standard_normal((n_dimensions, n_dimensions)))
        blocks.append(q * np.sign(np.diag(r)))  # Haar-distributed: Mezzadri, Notices of the AMS 2007
    return np.ascontiguousarray(np.concatenate(blocks, axis=1)[:, :n_bits], dtype=np.float32)


def make_sketches(vectors: Floats, n_bits: int, seed: int) -> Sketches:
    """(n, d) float32 to (n, n_bits / 8) uint8. `n_bits` is a multiple of 8."""
    return np.packbits(vectors @ rotation(vectors.shape[1], n_bits, seed) > 0, axis=1)

"""Which images of a run are candidates for one that is looked up: the pairs that match would have proposed.

Near by pHash, near by cosine, or one among the nearest of the other: `stages/match/neighbours.py` and `hash_pairs.py`
say the same of all pairs of a lake.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from dedup_spark.config import MatchSettings
from dedup_spark.kernels.arrays import Bools, Float32, Float64, Int64, UInt8
from dedup_spark.kernels.comparing.probability import DENSE_SIMILARITY, DENSITY_RANK
from dedup_spark.kernels.joins.sketch import near_in_first_bits
from dedup_spark.lookup.run_file import NO_RANK, RANKS

_PARTS = 5
"""Of a pHash: as in `stages/match/hash_pairs.py`, where two equal parts propose a pair."""
_BOUNDS = [round(i * 64 / _PARTS) for i in range(_PARTS + 1)]


@dataclass(frozen=True, eq=False)
class Candidates:
    """(m,) rows with what is known without a thumbnail; `similarity` nan where one of the two has no vector.

    `normalised` is the cosine less the mean density of the two, `is_dense` whether one of the two has a dense
    neighbourhood.
    """

    rows: Int64
    similarity: Float32
    hamming_bits: Int64
    normalised: Float64
    is_dense: Bools

    def __len__(self) -> int:
        return len(self.rows)

    def only(self, keep: Bools) -> Candidates:
        """Those."""
        return Candidates(
            self.rows[keep], self.similarity[keep], self.hamming_bits[keep], self.normalised[keep], self.is_dense[keep]
        )


@dataclass(frozen=True, eq=False)
class Compared:
    """(m,) rows that a scan or a hash found, their exact scores, and their `ranks` (m, 4), as `run_file.RANKS`."""

    rows: Int64
    similarity: Float32
    hamming_bits: Int64
    is_by_hash: Bools
    ranks: Float32


def candidates_of(found: Compared, settings: MatchSettings, floor: float, *, is_known: bool) -> Candidates:
    """The candidates among what was compared.

    Args:
        floor: The cosine down to which match looked for neighbours.
        is_known: Whether the lake has an image of these pixels: then the lists of the others hold it already.
    """
    cosine = np.nan_to_num(found.similarity, nan=-1.0).astype(np.float32)
    density, is_dense_query = density_of(cosine[cosine >= floor], settings)
    others, is_dense = densities_with(cosine, found.ranks, settings, is_known=is_known)
    lowest = min(settings.min_similarity, settings.floor_similarity)
    agrees = np.isnan(found.similarity) | (found.similarity >= np.float32(lowest))
    is_near = (cosine >= np.float32(settings.min_similarity)) | _among_nearest(cosine, found.ranks, settings, floor)
    is_embedded = ~np.isnan(found.similarity)
    chosen = (is_embedded & is_near) | (found.is_by_hash & agrees)
    normalised = np.where(is_embedded, cosine - (np.float64(density) + others) / 2, np.nan)
    everything = Candidates(found.rows, found.similarity, found.hamming_bits, normalised, is_dense | is_dense_query)
    return everything.only(chosen)


def density_of(cosine: Float32, settings: MatchSettings) -> tuple[float, bool]:
    """Of an image whose neighbours have these cosines its density, and whether its neighbourhood is dense."""
    nearest = -np.sort(-cosine)[: settings.neighbours]
    at_rank = nearest[DENSITY_RANK - 1] if len(nearest) >= DENSITY_RANK else settings.floor_similarity
    is_dense = 0 < settings.neighbours <= len(nearest) and nearest[-1] >= DENSE_SIMILARITY
    return max(float(at_rank), settings.floor_similarity), bool(is_dense)


def densities_with(
    cosine: Float32, ranks: Float32, settings: MatchSettings, *, is_known: bool
) -> tuple[Float64, Bools]:
    """(m,) densities of images and whether they are dense, once a further one with these cosines is their neighbour."""
    before, at, before_last, last = (ranks[:, RANKS.index(name)] for name in RANKS)
    if not is_known:
        at = np.where(cosine >= before, before, np.maximum(cosine, at))
        last = np.where(cosine >= before_last, before_last, np.maximum(cosine, last))
    is_dense = (last >= DENSE_SIMILARITY) & (settings.neighbours > 0)
    return np.maximum(at, settings.floor_similarity).astype(np.float64), np.asarray(is_dense)


def _among_nearest(cosine: Float32, ranks: Float32, settings: MatchSettings, floor: float) -> Bools:
    """(m,) whether one of the two is among the match.neighbours nearest of the other."""
    if not settings.neighbours:
        return np.zeros(len(cosine), bool)
    above = cosine >= np.float32(floor)
    order = np.argsort(-cosine, kind="stable")[: settings.neighbours]
    of_query = np.zeros(len(cosine), bool)
    of_query[order] = True
    last = ranks[:, RANKS.index("last")]
    return above & (of_query | (last == NO_RANK) | (cosine >= last))


def near_phashes(phash: int, hashes: UInt8, settings: MatchSettings) -> Int64:
    """Which of the (n, 8) hashes differ from `phash` in at most match.max_hamming_bits, and propose a pair: an overfull
    bucket does not. 1 ms for a million; ten more where there is one."""
    query = np.array([phash], np.int64).view(np.uint8).reshape(1, 8)
    rows = near_in_first_bits(query, hashes, settings.max_hamming_bits)[1]
    if len(rows) == 0:
        return rows
    differ = hashes.view(np.uint64)[:, 0] ^ np.array([phash], np.int64).view(np.uint64)[0]
    proposed = np.zeros(len(rows), bool)
    parts = [_mask(low, high) for low, high in itertools.pairwise(_BOUNDS)]
    for i, j in itertools.combinations(range(_PARTS), 2):
        is_equal = (differ & (parts[i] | parts[j])) == 0
        if np.count_nonzero(is_equal) < settings.max_phash_bucket:
            proposed |= is_equal[rows]
    return rows[proposed]


def _mask(low: int, high: int) -> np.uint64:
    return np.uint64(((1 << high) - 1) ^ ((1 << low) - 1))

"""Estimates, from a sample, how many pairs match would keep and how many of them cluster would weigh.

An image in a crowd (of screenshots in one frame) has thousands of near images, of which match keeps the nearest few; so
the number of near pairs says little. The images of a crowd are told from copies by their partners in the sample, and
counted by the places of their lists instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dedup_spark.commands.plan import estimates
from dedup_spark.commands.plan.estimates import NearImages, SampleCounts
from dedup_spark.config import Config, MatchSettings
from dedup_spark.kernels import vectors
from dedup_spark.kernels.arrays import Bools, Float16, Float64, Int64
from dedup_spark.kernels.comparing import probability
from dedup_spark.stages.match.floors import NEIGHBOURS_KEPT, lowest_floor, sketch_floor

_PAIRS_OF_PLACES = 0.64
"""Pairs for each place in the lists of crowded images; half of those that stand in both lists are no pairs of their
own. 0.63 for 265,184 places (made_features.py, 300,000 images)."""
_STEP = 0.05
"""Of the cosines at which the floor is looked for."""
_MOST_CANDIDATES = 8
"""Of a query image that is weighed to measure how long that takes: images of a crowd have 32."""


@dataclass(frozen=True)
class ExpectedPairs:
    """`kept` pairs in the table of pairs; of them `weighed` by thumbnails, of `described` images."""

    kept: float
    weighed: float
    described: float


@dataclass(frozen=True)
class NearInSample:
    """The near pairs of the sample's images of distinct pixels, which stand for `n_lake` such images.

    Attributes:
        rows: (n,) of these images in the sample.
        vectors: (n, d) theirs.
        prior: By which cluster doubts pairs of the lake's model; None: it weighs none.
    """

    rows: npt.NDArray[np.int64]
    vectors: Float16
    near: NearImages
    n_lake: int
    prior: probability.Prior | None

    def to_describe(self, n: int, least: float, most: int, seed: int) -> list[int]:
        """Rows of the sample, drawn as the images of pairs in doubt are made up: one with a copy in the sample stands
        for many whose copy is not in it, one of a crowd only for its own kind.

        Pairs are in doubt from the cosine `least` up, and at most `most` are kept of an image of a crowd.
        """
        degree = self.near.degree_at(least)
        crowded = _crowded(degree, self._ratio, most)
        return self.rows[self._drawn(np.where(crowded, 1.0, degree * self._ratio), n, seed)].tolist()

    def to_weigh(self, n: int, least: float, most: int, seed: int) -> list[list[int]]:
        """Rows of the sample: query images, drawn as the pairs in doubt are made up, each with candidates after it."""
        degree = self.near.degree_at(least)
        crowded = _crowded(degree, self._ratio, most)
        drawn = self._drawn(np.where(crowded, most, degree * self._ratio), n, seed)
        return [self.rows[[row, *self._candidates(row, least)]].tolist() for row in drawn.tolist()]

    @property
    def _ratio(self) -> float:
        return (self.n_lake - 1) / (len(self.rows) - 1)

    def _drawn(self, weights: Float64, n: int, seed: int) -> Int64:
        n = min(n, int(np.count_nonzero(weights)))
        if not n:
            return np.empty(0, np.int64)
        return np.random.default_rng(seed).choice(len(weights), n, replace=False, p=weights / weights.sum())

    def _candidates(self, row: int, least: float) -> list[int]:
        """The nearest of those in doubt with one image."""
        cosine = self.vectors.astype(np.float32) @ self.vectors[row].astype(np.float32)
        cosine[row] = -1
        nearest = np.argsort(-cosine, kind="stable")[:_MOST_CANDIDATES]
        return nearest[cosine[nearest] >= least].tolist()


def near_in(ok: pa.Table, n_lake: int, config: Config, thresholds: Iterable[float]) -> NearInSample | None:
    """Of the sample `ok` of a lake of `n_lake` images, at these cosines and at those that `expected_pairs` asks for;
    None where fewer than two images have embeddings."""
    first = np.sort(np.unique(np.array(ok["pixel_hash"].to_pylist(), dtype=str), return_index=True)[1])
    rows = first[ok["embedding"].take(pa.array(first)).is_valid().to_numpy()]
    if len(rows) < 2:
        return None
    n_distinct = max(len(rows), round(n_lake * len(rows) / len(ok))) if len(ok) < n_lake else len(rows)
    prior = probability.prior_of(ok["model_id"][int(rows[0])].as_py(), config.cluster.prior)
    found = vectors.from_bytes(ok["embedding"].take(pa.array(rows)).to_pylist())
    wanted = sorted({*thresholds, *_cosines_to_count(config.match, prior)}, reverse=True)
    return NearInSample(rows, found, estimates.near_in_sample(found, wanted), n_distinct, prior)


@dataclass(frozen=True)
class Cosines:
    """From which cosine match keeps the nearest of an image, and from which cluster doubts a pair; None: never."""

    kept: float
    doubted: float | None


def cosines(seen: NearInSample, n_distinct: int, config: Config, *, exact: bool) -> Cosines:
    """Of a lake of `n_distinct` images of distinct pixels.

    `exact`: match compares all pairs exactly, and looks for neighbours down to a lower floor; in a crowd it raises it.
    """
    match, kept = config.match, config.match.min_similarity
    if match.neighbours:
        enough = NEIGHBOURS_KEPT * match.neighbours * (len(seen.rows) - 1) / (max(n_distinct, len(seen.rows)) - 1)
        floor = (lowest_floor if exact else sketch_floor)(match)
        tried = [c for c in sorted(seen.near.thresholds) if floor <= c < match.min_similarity]
        kept = next((c for c in tried if seen.near.degree_at(c).mean() <= enough), match.min_similarity)
    if seen.prior is None or not config.cluster.max_verified_pairs:
        return Cosines(kept, None)
    return Cosines(kept, max(kept, _doubted_from(seen.prior)))


def expected_pairs(seen: NearInSample, n_distinct: int, config: Config, of: Cosines) -> ExpectedPairs:
    """Of a lake of `n_distinct` images of distinct pixels, by the settings of match and the budget of cluster."""
    match, near, n_lake = config.match, seen.near, max(n_distinct, len(seen.rows))

    def above(cosine: float, most: int) -> _Kept:
        return _kept(near.degree_at(cosine), n_lake, most)

    n_kept = max(above(match.min_similarity, 0).pairs, above(of.kept, match.neighbours).pairs)
    if of.doubted is None:
        return ExpectedPairs(n_kept, 0, 0)
    doubted = [above(of.doubted, match.neighbours)]
    if of.doubted <= match.min_similarity:  # above it all pairs are kept, however many an image has
        doubted.append(above(match.min_similarity, 0))
    n_weighed = min(max(d.pairs for d in doubted), n_kept, config.cluster.max_verified_pairs)
    return ExpectedPairs(n_kept, n_weighed, min(max(d.images for d in doubted), 2 * n_weighed))


def _cosines_to_count(match: MatchSettings, prior: probability.Prior | None) -> set[float]:
    steps = np.arange(lowest_floor(match), match.min_similarity, _STEP)
    found = {lowest_floor(match), sketch_floor(match), match.min_similarity, *(round(float(c), 2) for c in steps)}
    return found | {_doubted_from(prior)} if prior else found


def _doubted_from(prior: probability.Prior) -> float:
    """The least cosine, in steps of 0.01, at which a pair is in doubt that is no nearer than its neighbourhood."""
    cosines = np.round(np.arange(-1, 1.001, 0.01), 2)
    doubted = probability.prior(prior, cosines, np.zeros_like(cosines)) >= probability.DOUBT_FROM
    return float(cosines[doubted].min(initial=1.0))


class _Kept(NamedTuple):
    """Pairs of a lake, and the images in them."""

    pairs: float
    images: float


def _kept(degree: Int64, n_lake: int, most: int) -> _Kept:
    """Of a lake whose sample has these partners, where at most `most` of an image are kept (0: all).

    Their images are the fewest that so many pairs can have: 5,700 and 58,000 where there were 10,500 of 100,000 and
    107,000 of a million (made_features.py, samples of 20,000). A sample cannot tell more: a partner that it shows may
    be the only one or one of fifty.
    """
    n_sample = len(degree)
    ratio = (n_lake - 1) / (n_sample - 1)
    crowded = _crowded(degree, ratio, most)
    rest = degree[~crowded]
    n_pairs, n_paths = int(rest.sum()) // 2, int((rest * (rest - 1)).sum()) // 2
    found = estimates.estimate(SampleCounts(n_pairs, n_paths, int(np.count_nonzero(rest)), 0), n_sample, n_lake)
    n_crowded = int(crowded.sum()) * n_lake / n_sample
    pairs = found.pairs.value + _PAIRS_OF_PLACES * most * n_crowded
    return _Kept(pairs, min(float(n_lake), found.images.value + n_crowded))


def _crowded(degree: Int64, ratio: float, most: int) -> Bools:
    """(n,) images of a sample with more than `most` near images in the lake, which is `ratio` times as large.

    None where `most` is 0, and all are kept.

    One or two partners in the sample may be the only copies, whatever they are multiplied by: only three tell a crowd.
    """
    return np.asarray((degree >= 3) & (degree * ratio > most) & (most > 0))

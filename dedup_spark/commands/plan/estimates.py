"""Estimates how many duplicates a lake holds, from a random sample of it.

A pair is in the sample only when both of its images are drawn: a sample at rate r holds r^2 of the pairs and r^3 of the
chains of three. So a count of the sample is divided by those, never by r, and comes with an interval. No sample can
show a single group that it missed altogether, however large.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaincinv

from dedup_spark.kernels.arrays import Float16, Int64

_BLOCK_ROWS = 2048
"""Rows of a block product: 2048 x 2048 float32 is 16 MB, whatever the size of the sample."""


@dataclass(frozen=True)
class SampleCounts:
    """Counts of one kind of pair in a sample. The partners of an image are the images that it is in a pair with.

    Attributes:
        n_pairs: Pairs with both images in the sample.
        n_paths: Pairs of pairs that share an image: sum of d (d - 1) / 2 over the images' numbers of partners d.
        n_images: Images with a partner in the sample.
        n_extra: Images with a partner earlier in the sample: all of a group but one, where groups are complete.
        by_size: (images, pairs) of smaller samples, each the beginning of the next; the last is the whole sample.
    """

    n_pairs: int
    n_paths: int
    n_images: int
    n_extra: int
    by_size: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Range:
    """An estimate with its interval; both ends included."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """Of a whole lake: pairs, images in groups of two or more, and images beyond the first of each group.

    `seen` are the counts of the sample that the estimate is made from.
    """

    seen: SampleCounts
    pairs: Range
    images: Range
    extra: Range


@dataclass(frozen=True)
class NearImages:
    """For every image of a sample how many of the others are near it, by threshold.

    Attributes:
        degree: (t, n) partners of each image at each threshold.
        earlier: (t, n) those of them that are earlier in the sample.
    """

    thresholds: tuple[float, ...]
    degree: Int64
    earlier: Int64

    def degree_at(self, threshold: float) -> Int64:
        """(n,) partners at one of the thresholds."""
        return np.asarray(self.degree[self.thresholds.index(threshold)])

    def counts_at(self, threshold: float, n_sizes: int = 4) -> SampleCounts:
        """At one of the thresholds."""
        t = self.thresholds.index(threshold)
        return _counts(self.degree[t], self.earlier[t], n_sizes)


def near_in_sample(vectors: Float16, thresholds: Sequence[float]) -> NearImages:
    """Near images by each cosine threshold, of (n, d) unit vectors in random order.

    Cost: n^2 d multiply-adds, O(n) memory.
    """
    n = len(vectors)
    x = vectors.astype(np.float32)
    x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    degree, earlier = np.zeros((len(thresholds), n), np.int64), np.zeros((len(thresholds), n), np.int64)
    for i in range(0, n, _BLOCK_ROWS):
        for j in range(i, n, _BLOCK_ROWS):
            cosine = x[i : i + _BLOCK_ROWS] @ x[j : j + _BLOCK_ROWS].T
            for t, threshold in enumerate(thresholds):
                near = np.triu(cosine >= threshold, k=1) if i == j else cosine >= threshold
                by_column = near.sum(axis=0)
                degree[t, i : i + _BLOCK_ROWS] += near.sum(axis=1)
                degree[t, j : j + _BLOCK_ROWS] += by_column
                earlier[t, j : j + _BLOCK_ROWS] += by_column
    return NearImages(tuple(thresholds), degree, earlier)


def equal_in_sample(labels: Sequence[object], n_sizes: int = 4) -> SampleCounts:
    """Counts of pairs of images with equal labels (hashes), in random order. Cost: O(n), however many are equal."""
    _, group = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
    n = len(group)
    degree = np.bincount(group, minlength=1)[group] - 1 if n else np.zeros(0, np.int64)
    order = np.argsort(group, kind="stable")
    starts = np.r_[True, np.diff(group[order]) != 0] if n else np.zeros(0, bool)
    earlier = np.empty(n, np.int64)
    earlier[order] = np.arange(n) - np.maximum.accumulate(np.where(starts, np.arange(n), 0)) if n else 0
    return _counts(degree, earlier, n_sizes)


def _counts(degree: Int64, earlier: Int64, n_sizes: int) -> SampleCounts:
    """`degree` (n,): partners of each image; `earlier` (n,): those of them that are earlier in the sample."""
    n = len(degree)
    sizes = sorted({n * k // n_sizes for k in range(1, n_sizes + 1)} - {0})
    before = np.r_[0, np.cumsum(earlier)]
    by_size = tuple((size, int(before[size])) for size in sizes)
    n_paths = int((degree * (degree - 1)).sum()) // 2
    n_images, n_extra = int(np.count_nonzero(degree)), int(np.count_nonzero(earlier))
    return SampleCounts(int(degree.sum()) // 2, n_paths, n_images, n_extra, by_size)


def estimate(seen: SampleCounts, n_sample: int, n_lake: int, confidence: float = 0.95) -> Estimate:
    """Extrapolate from a simple random sample of `n_sample` of `n_lake` images to the lake.

    Pairs: found / r^2. The variance has two parts, single pairs and pairs that share an image (a group of many copies
    is drawn all at once); the interval is the exact one of a Poisson count, widened by their ratio (Garwood, 1936).
    Images in groups: with S pairs and W paths, at least 2 S^2 / (S + W) by Cauchy and Schwarz, exact when all groups
    are of one size; at most 2 S. Images beyond the first of each group of g: a share 1 - 1 / g of those, at least half.
    """
    if n_sample < 2 or n_lake < n_sample:
        raise ValueError(f"a sample of {n_sample} out of {n_lake} images: expected at least 2 and at most all")
    r = n_sample / n_lake
    r2 = r * (n_sample - 1) / (n_lake - 1)
    low, high = _count_interval(seen, r, r2, confidence)
    all_pairs = n_lake * (n_lake - 1) / 2
    pairs = Range(seen.n_pairs / r2, max(low / r2, seen.n_pairs), min(high / r2, all_pairs))
    if n_sample == n_lake:
        n, extra = float(seen.n_images), float(seen.n_extra)
        return Estimate(seen, pairs, Range(n, n, n), Range(extra, n / 2, extra))
    r3 = r2 * max(n_sample - 2, 1) / max(n_lake - 2, 1)
    paths, most_paths = seen.n_paths / r3, float(gammaincinv(seen.n_paths + 1, (1 + confidence) / 2)) / r3
    most = min(float(n_lake), 2 * pairs.high)
    value = min(most, max(_images_at_least(pairs.value, paths), seen.n_images))
    images = Range(value, min(value, max(_images_at_least(pairs.low, most_paths), seen.n_images)), most)
    group_size = 2 + paths / pairs.value if pairs.value else 2.0
    extra = value * (1 - 1 / group_size)
    return Estimate(seen, pairs, images, Range(extra, images.low / 2, max(extra, min(images.high, pairs.high))))


def between(found: Estimate, pairs: tuple[float, float], images: tuple[float, float]) -> Estimate:
    """The estimate clipped to what is known for certain: (least, most) pairs, and (least, most) images in groups."""
    extra = (images[0] / 2, images[1])
    return Estimate(
        found.seen, _clipped(found.pairs, pairs), _clipped(found.images, images), _clipped(found.extra, extra)
    )


def _clipped(found: Range, ends: tuple[float, float]) -> Range:
    value, low, high = (min(max(x, ends[0]), ends[1]) for x in (found.value, found.low, found.high))
    return Range(value, low, high)


def _images_at_least(n_pairs: float, n_paths: float) -> float:
    """The least number of images with a partner for so many pairs and paths: that of groups of one size."""
    return 2 * n_pairs**2 / (n_pairs + n_paths) if n_pairs else 0.0


def _count_interval(seen: SampleCounts, r: float, r2: float, confidence: float) -> tuple[float, float]:
    """Interval of the expected number of pairs in a sample like this one."""
    if r2 >= 1:
        return float(seen.n_pairs), float(seen.n_pairs)
    tail = (1 - confidence) / 2
    if seen.n_pairs == 0:
        return 0.0, float(gammaincinv(1, 1 - tail))
    # A sample with few pairs of a large group has fewer paths still: the upper end takes as many as are likely.
    most_paths = float(gammaincinv(seen.n_paths + 1, 1 - tail))
    narrow, wide = (
        max((1 - r2) + 2 * n_paths * (1 - r) / seen.n_pairs, 1e-9) for n_paths in (seen.n_paths, most_paths)
    )
    low = narrow * float(gammaincinv(seen.n_pairs / narrow, tail))
    return low, wide * float(gammaincinv(seen.n_pairs / wide + 1, 1 - tail))


def growth_exponent(by_size: Sequence[tuple[int, int]]) -> float | None:
    """Slope of log pairs over log images; near 2 when the sample is random. None with fewer than two counts above 0."""
    points = [(math.log(n), math.log(pairs)) for n, pairs in by_size if pairs > 0]
    if len(points) < 2:
        return None
    x, y = np.array(points).T
    return float(np.polyfit(x, y, 1)[0])


def sample_to_see(n_pairs_wanted: int, n_lake: int, share_with_copy: float) -> int:
    """Images that a sample needs for so many pairs, if this share of the lake has one copy each: r^2 = k / S."""
    n_pairs = max(n_lake * share_with_copy / 2, 1e-9)
    return min(n_lake, math.ceil(n_lake * math.sqrt(n_pairs_wanted / n_pairs)))

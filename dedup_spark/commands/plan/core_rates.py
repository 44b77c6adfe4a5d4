"""Measures how fast one core compares, embeds and weighs, in some seconds; runs on executors, on all cores at once."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import faiss
import numpy as np
import numpy.typing as npt

from dedup_spark.kernels.comparing.weighing import Scores, Thumbnail, keypoints_of, weigh
from dedup_spark.kernels.joins.base import Block, Candidates
from dedup_spark.kernels.joins.exact import exact_join
from dedup_spark.kernels.joins.sketch import near_in_first_bits, sketch_block
from dedup_spark.kernels.joins.sketches import (
    FIRST_BITS,
    CosineHistogram,
    SketchCosts,
    SketchFilter,
    choose_filter,
    filter_cost,
)

_ROWS, _FEW = 8192, 1024
"""8 million pairs: products take 0.1 s, sketches 10 to 20 ms, and they fill a cache as those of a shard do."""
_DIMENSIONS = 512
_IMAGES = 8


class Embeds(Protocol):
    """The part of a model that is timed."""

    def embed(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]: ...


@dataclass(frozen=True)
class CoreRates:
    """Nanoseconds per pair of 512-dimensional vectors on one core; for sketches with the cheapest filter."""

    exact_pair_ns: float
    sketch_pair_ns: float


def measure_core(demands: Sequence[tuple[float, float]], negatives: CosineHistogram, task_cpus: int) -> CoreRates:
    """Time the joins on random vectors, with `task_cpus` threads; the times are seconds of one core.

    `demands` are the (cosine, recall) that the sketches must reach, and `negatives` the cosines of random pairs of the
    lake: they decide how many bits a comparison takes (`choose_filter`).
    """
    faiss.omp_set_num_threads(task_cpus)
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((_ROWS, _DIMENSIONS), dtype=np.float32).astype(np.float16)
    block = Block(np.arange(_ROWS), vectors, np.zeros(_ROWS, np.int32))
    first = tuple(_first_bits_ns(block, n_bits, task_cpus) for n_bits in FIRST_BITS)
    sketch_ns = filter_cost(choose_filter(demands, negatives), negatives, SketchCosts(first=first))
    few = Block(block.ids[:_FEW], vectors[:_FEW], block.cells[:_FEW])
    exact_join_of = functools.partial(exact_join, few, block, 0.9)
    _drain(exact_join_of())  # the first product of a process starts its threads
    begin = time.perf_counter()
    _drain(exact_join_of())
    exact_ns = (time.perf_counter() - begin) * task_cpus * 1e9 / (_FEW * _ROWS)
    return CoreRates(exact_ns, sketch_ns)


def _first_bits_ns(block: Block, n_bits: int, task_cpus: int) -> float:
    sketches = sketch_block(block, SketchFilter(n_bits, 0, 0, 0), seed=0).first
    begin = time.perf_counter()
    near_in_first_bits(sketches[:_FEW], sketches, 1)
    return (time.perf_counter() - begin) * task_cpus * 1e9 / (_FEW * len(sketches))


def _drain(candidates: Candidates) -> None:
    for _ in candidates:
        pass


def embed_seconds(model: Embeds, input_px: int) -> float:
    """Seconds per image, in a batch of eight, with the threads of the model; the second of two batches counts."""
    images = np.random.default_rng(0).integers(0, 256, (_IMAGES, input_px, input_px, 3), dtype=np.uint8)
    model.embed(images)
    begin = time.perf_counter()
    model.embed(images)
    return (time.perf_counter() - begin) / _IMAGES


@dataclass(frozen=True)
class ToWeigh:
    """Thumbnails: some to describe, and query images, each with its candidates after it."""

    described: list[bytes]
    queries: list[list[bytes]]


@dataclass(frozen=True)
class WeighRates:
    """Seconds of one core: to decode and describe a thumbnail, and to compare two that are described."""

    describe_seconds: float
    weigh_seconds: float


def measure_weighing(given: ToWeigh) -> WeighRates | None:
    """Describe and weigh as cluster does, with one thread; None without thumbnails.

    The first query is weighed once more before, uncounted.
    """
    if not given.described or not given.queries:
        return None
    cv2.setNumThreads(1)
    _weigh(given.queries[:1])
    begin = time.perf_counter()
    for jpeg in given.described:
        keypoints_of(jpeg)
    per_image = (time.perf_counter() - begin) / len(given.described)
    return WeighRates(per_image, _weigh(given.queries))


def _weigh(queries: Sequence[Sequence[bytes]]) -> float:
    """Seconds for a pair."""
    found = {jpeg: Thumbnail(jpeg, keypoints_of(jpeg)) for query in queries for jpeg in query}
    begin = time.perf_counter()
    for query, *candidates in queries:
        n = len(candidates)
        unsure = Scores(np.full(n, 0.5), np.full(n, 32), np.zeros(n, np.bool_))  # cosine and pHash say nothing
        weigh(found[query], [found[c] for c in candidates], unsure, list)
    return (time.perf_counter() - begin) / max(1, sum(len(query) - 1 for query in queries))

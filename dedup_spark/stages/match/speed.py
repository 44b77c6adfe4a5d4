"""How fast the cores of this machine compare vectors. Runs on executors."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

import numpy as np

from dedup_spark.kernels.joins.base import Block, score_candidates
from dedup_spark.kernels.joins.faiss_ivf import SearchCounts, SearchLimits, ShardSearch, near_of
from dedup_spark.kernels.joins.sketch import near_in_first_bits, sketch_block
from dedup_spark.kernels.joins.sketches import FIRST_BITS, SketchCosts, SketchFilter


def sketch_costs(block: Block, seed: int) -> SketchCosts:
    """Nanoseconds on this machine, measured in about 0.1 s; the constants of the class where the block is small."""
    few = Block(block.ids[:4096], block.vectors[:4096], block.cells[:4096])
    if len(few) < 1024:
        return SketchCosts()
    first = []
    for n_bits in FIRST_BITS:
        s = sketch_block(few, SketchFilter(n_bits, 0, 0, 0), seed).first
        first.append(nanoseconds(functools.partial(near_in_first_bits, s[:512], s, 1), 512 * len(s)))
    i, j = np.arange(1024), np.arange(1024)[::-1].copy()
    score = nanoseconds(lambda: list(score_candidates(few, few, iter([(i, j)]), 1.0, 0, 1.0)), 1024)
    return SketchCosts(first=tuple(first), score=score)


_TIMED_PROBES = 16


def faiss_nanoseconds(search: ShardSearch, k: int, n_queries: int, clock: Callable[[], float]) -> float:
    """Per row that FAISS scans, by searching a shard with rows of its own; the choice of cells is in it."""
    block = search.block
    queries = block.unit_vectors(np.linspace(0, len(block) - 1, min(n_queries, len(block))).astype(np.int64))
    limits = SearchLimits(_TIMED_PROBES, k, 1.0, 1.0)
    n_scanned = search.n_scanned(queries, _TIMED_PROBES)
    return nanoseconds(lambda: near_of(search, queries, limits, SearchCounts()), max(1, n_scanned), clock)


def nanoseconds(work: Callable[[], object], n: int, clock: Callable[[], float] = time.process_time) -> float:
    """The best of three, divided by `n`."""
    times = []
    for _ in range(3):
        begin = clock()
        work()
        times.append(clock() - begin)
    return 1e9 * min(times) / n

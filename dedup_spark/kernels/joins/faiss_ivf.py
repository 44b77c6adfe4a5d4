"""The FAISS join: FAISS's own search of one shard's index, with every row of the other shard as a query, and back.

Two shards are searched in both directions, so that two rows which probe each other's cells are proposed twice, but
never twice in one portion.

On a CPU a range search returns all rows above the threshold. A GPU has none: there, and wherever `k` is set, a search
returns the k best. That is enough as long as the k-th lies below the similarity from which every pair counts, as the
nearest neighbours below it are then among the k. A query with more near rows than k is answered once more, by the
range search of the CPU, and counted.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

import faiss
import numpy as np

from dedup_spark.kernels.arrays import Float32, Int64, expect
from dedup_spark.kernels.joins.base import Block, Candidates, Rows
from dedup_spark.kernels.joins.faiss_device import MAX_K, FaissGpu, FaissGpuUnusable

FLOAT16_ERROR = 1e-2
"""FAISS multiplies the stored rows, whose length differs from 1 by up to 5e-4 each where they were unit vectors."""

GPU_K = 128
"""Neighbours that a search on a GPU asks for where no setting says so: four times the default of match.neighbours."""

_QUERIES = 256  # per range search: with 65,536 rows, all of them near, FAISS returns 200 MB
_GPU_QUERIES = 16_384  # per search on a GPU, at most
_GPU_SEARCH_BYTES = 56 << 20  # of its queries and answers: 16,384 of 512 dimensions at k 128


@dataclass(frozen=True)
class SearchLimits:
    """What a search asks FAISS for.

    Attributes:
        n_probes: Cells that a query visits, of all cells of the index; of no meaning without cells.
        k: Neighbours asked for; 0: all above the threshold, on a GPU GPU_K.
        lowest: Cosine below which no pair is wanted.
        keep: Cosine from which on every pair is wanted; between the two only the nearest of a row.
        margin: How far FAISS's score of a pair may lie below its cosine.
    """

    n_probes: int
    k: int
    lowest: float
    keep: float
    margin: float = FLOAT16_ERROR


@dataclass
class SearchCounts:
    """What searches came to: queries answered, those of them with more near rows than k, why a GPU was given up."""

    n_queries: int = 0
    n_full: int = 0
    gave_up_gpu: str = ""


@dataclass(frozen=True, eq=False)
class ShardSearch:
    """A shard's rows and its FAISS index with their ids, and a copy of the index on a GPU where one is used.

    A copy of an index without cells numbers its rows, and does not know their ids.
    """

    block: Block
    index: Any
    gpu: FaissGpu | None = None
    on_gpu: Any = field(default=None)

    @classmethod
    def on(cls, gpu: FaissGpu, block: Block, index: Any) -> ShardSearch:
        """With a copy on that GPU. Raises FaissGpuUnusable."""
        return cls(block, index, gpu, copy_to(gpu, index))

    def rows(self, ids: Int64) -> Rows:
        """The rows of these ids."""
        return self._order[np.searchsorted(self.block.ids, ids, sorter=self._order)]

    @functools.cached_property
    def _order(self) -> Int64:
        return np.argsort(self.block.ids)

    def best(self, queries: Float32, k: int, n_probes: int) -> tuple[Float32, Int64]:
        """(n, k) scores and ids; where there are fewer, the lowest float32 and -1. Raises FaissGpuUnusable on a GPU."""
        if self.gpu is None:
            _probe(self.index, n_probes)
            scores, ids = self.index.search(queries, k)
            return scores, ids
        if _has_cells(self.index):
            self.on_gpu.nprobe = _probes_on_gpu(min(n_probes, self.index.nlist))
        scores, labels = self.gpu.search(self.on_gpu, queries, k)
        if _numbers_rows(self.index):
            labels = np.where(labels < 0, -1, faiss.vector_to_array(self.index.id_map)[labels])
        return scores, labels

    def n_scanned(self, queries: Float32, n_probes: int) -> int:
        """Rows that a search visits, of all queries together."""
        if not _has_cells(self.index):
            return len(queries) * len(self.block)
        sizes = np.zeros(self.index.nlist, np.int64)
        cells, counts = np.unique(self.block.cells, return_counts=True)
        sizes[cells] = counts
        visited = self.index.quantizer.search(queries, min(n_probes, self.index.nlist))[1]
        return int(sizes[visited].sum())

    def above(self, queries: Float32, lowest: float, n_probes: int) -> tuple[Rows, Int64]:
        """Queries and ids of all rows with at least this score, by the CPU."""
        _probe(self.index, n_probes)
        limits, _, ids = self.index.range_search(queries, lowest)
        return np.repeat(np.arange(len(queries), dtype=np.int64), np.diff(limits.astype(np.int64))), ids


def copy_to(gpu: FaissGpu, index: Any) -> Any:
    """The copy of an index that `ShardSearch` searches. Raises FaissGpuUnusable."""
    return gpu.copy(faiss.downcast_index(index.index) if _numbers_rows(index) else index)


def ivf_join(
    a: ShardSearch,
    b: ShardSearch | None,
    limits: SearchLimits,
    counted: SearchCounts | None = None,
    n_answered: int = 0,
) -> Candidates:
    """Candidates that FAISS finds; with `b` None of a with itself. `counted` is added to.

    `n_answered` queries, of the rows of a and then of b, are left out: where a join failed, another goes on from there.

    Raises:
        FaissGpuUnusable: the GPU cannot search, or its memory is full.
    """
    counted = SearchCounts() if counted is None else counted
    if b is None:
        for i, j in _search(a.block, a, limits, counted, n_answered):
            # Two queries of one search that find each other would take two places among the nearest of both.
            keep = i != j
            keys = np.unique(np.minimum(i, j)[keep] * len(a.block) + np.maximum(i, j)[keep])
            yield keys // len(a.block), keys % len(a.block)
        return
    yield from _search(a.block, b, limits, counted, n_answered)
    for j, i in _search(b.block, a, limits, counted, max(0, n_answered - len(a.block))):
        yield i, j


def _search(queries: Block, base: ShardSearch, limits: SearchLimits, counted: SearchCounts, first: int) -> Candidates:
    step = _QUERIES if base.gpu is None else _queries_on_gpu(queries.vectors.shape[1], limits.k or GPU_K)
    for start in range(first, len(queries), step):
        x = queries.unit_vectors(slice(start, start + step))
        i, ids = near_of(base, x, limits, counted)
        yield i + start, base.rows(ids)


def _queries_on_gpu(n_dimensions: int, k: int) -> int:
    """Queries per search: float32 numbers, and k scores of 4 bytes with ids of 8 for each."""
    return max(_QUERIES, min(_GPU_QUERIES, _GPU_SEARCH_BYTES // (4 * n_dimensions + 12 * k)))


def near_of(base: ShardSearch, queries: Float32, limits: SearchLimits, counted: SearchCounts) -> tuple[Rows, Int64]:
    """Queries (n, d) and the ids that are near them, of one search. Queries are counted when they are answered."""
    k = min(limits.k or (GPU_K if base.gpu else 0), len(base.block))
    if k:
        found = _of_best(base, queries, k, limits, counted)
    else:
        found = base.above(queries, limits.lowest - limits.margin, limits.n_probes)
    counted.n_queries += len(queries)
    return found


def _of_best(base: ShardSearch, x: Float32, k: int, limits: SearchLimits, counted: SearchCounts) -> tuple[Rows, Int64]:
    """Of the k best those above the threshold; of queries with more than k near rows, all that are near."""
    expect(queries=(x, "n d", np.float32))
    scores, ids = base.best(x, k, limits.n_probes)
    full = (scores[:, -1] >= limits.keep - limits.margin) & (k < len(base.block))
    # Where there are fewer than k, the score is the lowest float32; their id of -1 could be an image's.
    i, place = np.nonzero((scores >= limits.lowest - limits.margin) & ~full[:, None])
    found = [(i, ids[i, place])]
    again = np.flatnonzero(full)
    counted.n_full += len(again)
    for start in range(0, len(again), _QUERIES):
        some = again[start : start + _QUERIES]
        j, of_some = base.above(x[some], limits.keep - limits.margin, limits.n_probes)
        found.append((some[j], of_some))
    return np.concatenate([q for q, _ in found]), np.concatenate([ids for _, ids in found])


def _probe(index: Any, n_probes: int) -> None:
    if _has_cells(index):
        index.nprobe = n_probes


def _probes_on_gpu(n_probes: int) -> int:
    if n_probes > MAX_K:
        raise FaissGpuUnusable(f"FAISS visits at most {MAX_K:,} cells on a GPU, not {n_probes:,}")
    return n_probes


def _has_cells(index: Any) -> bool:
    return hasattr(index, "nprobe")


def _numbers_rows(index: Any) -> bool:
    """Of an index without cells, which holds its ids in a list beside it."""
    return hasattr(index, "id_map")

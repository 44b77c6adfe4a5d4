"""What executors do for the survey: compare the sample exactly with one shard, for neighbours, counts and times."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from dedup_spark.columns import Columns
from dedup_spark.kernels.arrays import Float16, Float32, Int64
from dedup_spark.kernels.faiss_index import scores_of
from dedup_spark.kernels.joins.base import FLOAT32_ERROR, Block, Candidates, Rows, ScoredPairs, score_candidates, tiles
from dedup_spark.kernels.joins.faiss_ivf import ShardSearch
from dedup_spark.kernels.joins.routed import home_cosines
from dedup_spark.kernels.joins.sketches import FIRST_BITS
from dedup_spark.kernels.vectors import Quantiser, to_float32
from dedup_spark.stages.match.speed import faiss_nanoseconds, sketch_costs
from dedup_spark.store.shards import Shard

SURVEYED = Columns(
    "query_id bigint, neighbour_id bigint, similarity float, gap float, rank int, faiss_error float, "
    "histograms map<string, array<bigint>>, measured map<string, double>"
)

COSINE_BINS = np.linspace(-1, 1, 201)
GAP_BINS = np.linspace(-1, 3, 401)
RANK_BINS = np.unique(np.round(2 ** (np.arange(65) / 4)).astype(np.int64))
"""Numbers of probes, from 1 to 65,536, about a fifth apart."""

_MAX_SHARD_PAIRS = 1_000_000
"""Neighbours that the sample may have in one shard (20 MB); more than that is an explosion, and is only counted."""

_TIMED_QUERIES = 256

_MAX_ROUTED_PAIRS = 4_096  # of a shard, whose distances to all cells are computed


@dataclass(frozen=True)
class SurveySettings:
    """What a task needs to compare the sample with a shard."""

    root: str
    min_similarity: float
    floor: float
    neighbours: int
    seed: int
    faiss_k: int | None = None
    """match.faiss_k where faiss_ivf may be chosen; None: it is not timed."""

    @property
    def lowest(self) -> float:
        return self.floor if self.neighbours else self.min_similarity


def survey_shard(
    shard: Shard,
    ids: Int64,
    vectors: Float16,
    settings: SurveySettings,
    *,
    times_sketches: bool = False,
    read_bytes: int = 0,
) -> Iterator[pa.RecordBatch]:
    """Rows of SURVEYED for one shard. The last has counts and times, with `times_sketches` those of sketches and of
    FAISS, too, and the bytes that were read for the shard. Of a shard that was read with its index, rows say how far
    FAISS's score lies below the cosine."""
    block, centroids = shard.block, shard.centroids
    queries = _by_cell(ids, vectors, centroids)
    counts = np.zeros(len(COSINE_BINS) - 1, np.int64)
    begin = time.process_time()  # of this task alone: other tasks and queries share the cores
    proposed = _propose(queries, block, settings.lowest, counts)
    near = list(
        score_candidates(queries, block, proposed, settings.floor, settings.neighbours, settings.min_similarity)
    )
    measured = {
        "read_bytes": float(read_bytes),
        "n_compared": float(len(queries) * len(block)),
        "gemm_ns": 1e9 * (time.process_time() - begin) / max(1, len(queries) * len(block)),
    }
    measured["exploded"] = float(counts.sum() > _MAX_SHARD_PAIRS)
    if not measured["exploded"]:
        yield from _neighbours(queries, shard, near, settings)
    if times_sketches:
        costs = sketch_costs(block, settings.seed)
        measured |= {f"first_{bits}": ns for bits, ns in zip(FIRST_BITS, costs.first, strict=True)}
        measured |= {"score": costs.score, "n_cells": float(len(centroids))}
        if settings.faiss_k is not None:
            search = ShardSearch(block, shard.index)
            measured["faiss_ns"] = faiss_nanoseconds(search, settings.faiss_k, _TIMED_QUERIES, time.process_time)
    histograms = {"near": counts, "gaps": _gap_counts(queries, block, centroids)}
    histograms["ranks"] = _rank_counts(queries, block, centroids)
    yield _counts_row(histograms, measured)


def _by_cell(ids: Int64, vectors: Float16, centroids: Float32) -> Block:
    cells = Quantiser(centroids).nearest(to_float32(vectors))
    order = np.argsort(cells, kind="stable")
    return Block(ids[order], vectors[order], cells[order])


def _propose(queries: Block, block: Block, lowest: float, counts: np.ndarray) -> Candidates:
    """All rows near enough, which it also adds to `counts`; beyond _MAX_SHARD_PAIRS it only counts."""
    for cols, row_tiles in tiles(len(queries), len(block)):
        y = block.unit_vectors(cols)
        for rows in row_tiles:
            products = queries.unit_vectors(rows) @ y.T
            flat = np.flatnonzero(products >= np.float32(lowest - FLOAT32_ERROR))
            counts += np.histogram(np.clip(products.ravel()[flat], -1, 1), COSINE_BINS)[0]
            if counts.sum() <= _MAX_SHARD_PAIRS:
                i, j = np.divmod(flat, products.shape[1])
                yield i + rows.start, j + cols.start


def _neighbours(
    queries: Block, shard: Shard, near: list[ScoredPairs], settings: SurveySettings
) -> Iterator[pa.RecordBatch]:
    """The pairs that `pairs` must hold; those above min_similarity with what routing and FAISS need to find them."""
    block, centroids = shard.block, shard.centroids
    to_cells = queries.unit_vectors(slice(None)) @ centroids.T
    for found in near:
        own = found.best_of_a | (found.similarity >= np.float32(settings.min_similarity))
        i, j, similarity = found.i[own], found.j[own], found.similarity[own]
        routed = np.flatnonzero(similarity >= np.float32(settings.min_similarity))[:_MAX_ROUTED_PAIRS]
        gap, rank, unknown = np.zeros(len(i), np.float32), np.zeros(len(i), np.int32), np.ones(len(i), bool)
        gap[routed], rank[routed] = _routes(queries, block, i[routed], j[routed], to_cells, centroids)
        unknown[routed] = False
        error, is_unknown = np.zeros(len(i), np.float32), unknown | (shard.index is None)
        if shard.index is not None:
            error[routed] = _faiss_errors(queries, shard, i[routed], j[routed], similarity[routed])
        nulls = [pa.nulls(len(i), kind) for kind in SURVEYED.arrow.types[6:]]
        pairs = [pa.array(x) for x in (queries.ids[i], block.ids[j], similarity)]
        routes = [pa.array(gap, mask=unknown), pa.array(rank, mask=unknown), pa.array(error, mask=is_unknown)]
        yield pa.RecordBatch.from_arrays([*pairs, *routes, *nulls], schema=SURVEYED.arrow)


def _routes(
    queries: Block, block: Block, i: Rows, j: Rows, to_cells: Float32, centroids: Float32
) -> tuple[np.ndarray, np.ndarray]:
    """For each pair, the smaller of both directions: the gap to the other's home cell, and its rank, from 1."""
    ways = []
    for sims, home, other in (
        (to_cells[i], queries.cells[i], block.cells[j]),
        (block.unit_vectors(j) @ centroids.T, block.cells[j], queries.cells[i]),
    ):
        there = np.take_along_axis(sims, other[:, None], 1)
        gap = np.take_along_axis(sims, home[:, None], 1)[:, 0] - there[:, 0]
        ways.append((np.where(home == other, np.float32(-1), gap), 1 + (sims > there).sum(1)))
    return np.minimum(ways[0][0], ways[1][0]), np.minimum(ways[0][1], ways[1][1]).astype(np.int32)


def _faiss_errors(queries: Block, shard: Shard, i: Rows, j: Rows, similarity: Float32) -> Float32:
    """How far below the cosine of each pair FAISS's score lies."""
    return similarity - scores_of(shard.index, queries.unit_vectors(i), shard.block.ids[j])


def _rank_counts(queries: Block, block: Block, centroids: Float32) -> np.ndarray:
    """Rows of the shard by how many probes a query needs to visit their cell, by RANK_BINS."""
    cells = np.array(list(block.cell_bounds), np.int64)
    sizes = np.array([rows.stop - rows.start for rows in block.cell_bounds.values()], np.int64)
    counts = np.zeros(len(RANK_BINS), np.int64)
    for to_cells in queries.unit_vectors(slice(None)) @ centroids.T:
        n_farther = np.searchsorted(np.sort(to_cells), to_cells[cells], side="right")
        ranks = len(centroids) - n_farther + 1
        counts += np.bincount(np.searchsorted(RANK_BINS, ranks), sizes, len(RANK_BINS)).astype(np.int64)
    return counts


def _gap_counts(queries: Block, block: Block, centroids: Float32) -> np.ndarray:
    """Rows of the shard by how much farther than home their cell lies from a query."""
    cells = np.array(list(block.cell_bounds), np.int64)
    sizes = np.array([rows.stop - rows.start for rows in block.cell_bounds.values()], np.int64)
    gap = home_cosines(queries, centroids)[:, None] - queries.unit_vectors(slice(None)) @ centroids[cells].T
    gap[queries.cells[:, None] == cells] = -1
    weights = np.broadcast_to(sizes, gap.shape)
    return np.histogram(np.clip(gap, -1, 3), GAP_BINS, weights=weights)[0].astype(np.int64)


def _counts_row(histograms: dict[str, np.ndarray], measured: dict[str, float]) -> pa.RecordBatch:
    row = {
        "histograms": list({k: v.tolist() for k, v in histograms.items()}.items()),
        "measured": list(measured.items()),
    }
    return pa.RecordBatch.from_pylist([row], schema=SURVEYED.arrow)

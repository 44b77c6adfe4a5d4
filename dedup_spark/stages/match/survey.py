"""The survey: a random sample of representatives compared exactly with everything, before the join.

It predicts (how many pairs, neighbours, candidates), it chooses (floor, bits, margin, engine), and after the join it
audits: what the sample found exactly and the join did not is lost. It costs sample x n matrix products, at most 1 % of
an exact join, and 20 bytes a neighbour.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dedup_spark.columns import Columns
from dedup_spark.kernels.arrays import Float16, Float32, Int64
from dedup_spark.kernels.joins.base import FLOAT32_ERROR, Block, Candidates, Rows, ScoredPairs, score_candidates, tiles
from dedup_spark.kernels.joins.exact import exact_join
from dedup_spark.kernels.joins.routed import home_cosines
from dedup_spark.kernels.joins.sketch import near_in_first_bits, sketch_block
from dedup_spark.kernels.joins.sketches import FIRST_BITS, CosineHistogram, SketchCosts, SketchFilter, negatives_of
from dedup_spark.kernels.vectors import Quantiser, from_bytes, to_float32
from dedup_spark.spark.gpus import TaskShare
from dedup_spark.stages.match.task import open_device
from dedup_spark.store import shards

SURVEYED = Columns(
    "query_id bigint, neighbour_id bigint, similarity float, gap float, rank int, "
    "histograms map<string, array<bigint>>, measured map<string, double>"
)

_DRAWS = 1 << 30
COSINE_BINS = np.linspace(-1, 1, 201)
GAP_BINS = np.linspace(-1, 3, 401)

_MAX_SHARD_PAIRS = 1_000_000
"""Neighbours that the sample may have in one shard (20 MB); more than that is an explosion, and is only counted."""

_UNKNOWN_MARGIN = 0.4  # without a pair to measure: SSCD copies at cosine 0.45 are within 0.3 of each other's cells

_MAX_ROUTED_PAIRS = 4_096  # of a shard, whose distances to all cells are worked out


@dataclass(frozen=True)
class SurveySettings:
    """What a task needs to compare the sample with a shard."""

    root: str
    min_similarity: float
    floor: float
    neighbours: int
    seed: int

    @property
    def lowest(self) -> float:
        return self.floor if self.neighbours else self.min_similarity


@dataclass(frozen=True)
class Survey:
    """What the sample says about the lake. Times are nanoseconds on one core of the executors; of `costs` those of the
    first bits and of a score are measured."""

    n_queries: int
    n_compared: int
    near: tuple[int, ...]  # neighbours of the sample above the floor, by COSINE_BINS
    negatives: CosineHistogram
    gaps: tuple[int, ...]  # vectors by how much farther than home their cell lies, by GAP_BINS
    n_routed: int
    margin: float
    n_probes: int
    gemm_ns: float
    costs: SketchCosts
    exploded: bool

    def neighbours_an_image(self, cosine: float) -> float:
        """Mean number of other representatives with at least this cosine, in steps of 0.01."""
        return sum(self.near[round((cosine + 1) * 100) :]) / max(1, self.n_queries)

    def visited_share(self, margin: float) -> float:
        """Share of the lake that lies in the cells an image visits."""
        inside = sum(n for n, low in zip(self.gaps, GAP_BINS.tolist(), strict=False) if low <= margin)
        return inside / max(1, sum(self.gaps))


def may_be_drawn(n: int, n_wanted: int, seed: int) -> Column:
    """Of each of `n` rows whether it is among the some more than `n_wanted` of which the sample is drawn."""
    return _place(seed) < (1.5 * n_wanted + 20) / n if n_wanted < n else F.lit(n_wanted > 0)


def draw(drawable: DataFrame, n_wanted: int, seed: int) -> tuple[Int64, Float16]:
    """Ids (q,) and vectors (q, d) of a sample, by id; to the driver come 1 KB each.

    Which rows of (image_id, embedding) are drawn depends on id and seed alone, not on order or partitions.
    """
    rows = drawable.orderBy(_place(seed), "image_id").limit(n_wanted).toArrow().sort_by("image_id")
    return rows["image_id"].to_numpy(), from_bytes(rows["embedding"].to_pylist())


def _place(seed: int) -> Column:
    return F.pmod(F.xxhash64("image_id", F.lit(seed)), F.lit(_DRAWS)) / F.lit(float(_DRAWS))


def sample_size(n: int, wanted: int) -> int:
    """At most 1 % of the comparisons of half a matrix, but 200 images or all."""
    return min(n, wanted, max(200, n // 200))


def survey(shard_rows: DataFrame, sample: tuple[Int64, Float16], settings: SurveySettings) -> DataFrame:
    """The sample's neighbours in each shard, and a row of counts and times for each; lazy. The sample is broadcast."""
    shared = shard_rows.sparkSession.sparkContext.broadcast(sample)

    def compare(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for shard in (row for batch in batches for row in batch.to_pylist()):
            file = (settings.root, shard["path"], shard["sha256"])
            yield from survey_shard(file, *shared.value, settings, calibrates=shard["shard"] == 0)

    return shard_rows.select("shard", "path", "sha256").mapInArrow(compare, SURVEYED.ddl)


def survey_shard(
    file: tuple[str, str, str], ids: Int64, vectors: Float16, settings: SurveySettings, *, calibrates: bool
) -> Iterator[pa.RecordBatch]:
    """On executors: rows of SURVEYED for one shard."""
    block, centroids = shards.read_shard(*file), shards.read_centroids(*file)
    queries = _by_cell(ids, vectors, centroids)
    counts = np.zeros(len(COSINE_BINS) - 1, np.int64)
    begin = time.process_time()  # of this task alone: other tasks and queries share the cores
    proposed = _propose(queries, block, settings.lowest, counts)
    near = list(
        score_candidates(queries, block, proposed, settings.floor, settings.neighbours, settings.min_similarity)
    )
    measured = {
        "n_compared": float(len(queries) * len(block)),
        "gemm_ns": 1e9 * (time.process_time() - begin) / max(1, len(queries) * len(block)),
    }
    measured["exploded"] = float(counts.sum() > _MAX_SHARD_PAIRS)
    if not measured["exploded"]:
        yield from _neighbours(queries, block, near, centroids, settings)
    if calibrates:
        costs = calibrate(block, settings.seed)
        measured |= {f"first_{bits}": ns for bits, ns in zip(FIRST_BITS, costs.first, strict=True)}
        measured["score"] = costs.score
    histograms = {"near": counts, "gaps": _gap_counts(queries, block, centroids)}
    yield _counts_row(histograms, measured)


def gpu_nanoseconds(shard_rows: DataFrame, root: str, share: TaskShare) -> float:
    """Of one comparison by exact_gpu, measured by one task that holds a GPU, on the first shard."""
    first = shard_rows.where("shard = 0").select("path", "sha256").repartition(1)

    def measure(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for file in (row for batch in batches for row in batch.to_pylist()):
            block, device = shards.read_shard(root, file["path"], file["sha256"]), open_device(share.gpus)
            yield pa.RecordBatch.from_pylist([{"ns": _exact_nanoseconds(block, device)}])

    row = first.mapInArrow(measure, "ns double", profile=share.profile).first()
    assert row is not None
    return float(row["ns"])


def _exact_nanoseconds(block: Block, device: str) -> float:
    """By the clock: the time of a GPU is not in that of this process."""
    n = len(block) ** 2 // 2
    return _nanoseconds(lambda: list(exact_join(block, None, 1.0, device)), n, time.perf_counter)


def calibrate(block: Block, seed: int) -> SketchCosts:
    """Nanoseconds of this machine, in about 0.1 s; the constants of the class where the block is small."""
    few = Block(block.ids[:4096], block.vectors[:4096], block.cells[:4096])
    if len(few) < 1024:
        return SketchCosts()
    first = []
    for n_bits in FIRST_BITS:
        s = sketch_block(few, SketchFilter(n_bits, 0, 0, 0), seed).first
        first.append(_nanoseconds(functools.partial(near_in_first_bits, s[:512], s, 1), 512 * len(s)))
    i, j = np.arange(1024), np.arange(1024)[::-1].copy()
    score = _nanoseconds(lambda: list(score_candidates(few, few, iter([(i, j)]), 1.0, 0, 1.0)), 1024)
    return SketchCosts(first=tuple(first), score=score)


def summarise(surveyed: DataFrame, sample: Float16, min_recall: float) -> Survey:
    """One Survey of the sample and of what all shards said of it; on the driver one row a shard."""
    n_queries = len(sample)
    enough = min_recall + (1 - min_recall) / 2
    of_shard = F.when(F.col("query_id").isNull(), F.struct("histograms", "measured"))
    said = surveyed.agg(
        F.collect_list(of_shard).alias("shards"),
        F.count("gap").alias("n"),
        *[F.percentile(c, F.lit(enough)).alias(c) for c in ("gap", "rank")],
        *[F.max(c).alias(f"max_{c}") for c in ("gap", "rank")],
    ).first()
    assert said is not None
    rows = said["shards"]
    totals = {name: np.sum([r["histograms"][name] for r in rows], axis=0) for name in ("near", "gaps")}
    compared = sum(r["measured"]["n_compared"] for r in rows)
    seconds = sum(r["measured"]["gemm_ns"] * r["measured"]["n_compared"] for r in rows)
    few = said["n"] < 3 / (1 - enough)  # then the quantile is the largest seen, and says little
    totals["near"][-1] -= n_queries  # each met itself
    calibrated = next((r["measured"] for r in rows if "score" in r["measured"]), None)
    return Survey(
        n_queries=n_queries,
        n_compared=int(compared),
        near=tuple(totals["near"].tolist()),
        negatives=negatives_of(sample),
        gaps=tuple(totals["gaps"].tolist()),
        n_routed=said["n"],
        margin=_UNKNOWN_MARGIN if not said["n"] else said["max_gap"] * 1.5 + 0.05 if few else said["gap"],
        n_probes=64 if not said["n"] else math.ceil(2 * said["max_rank"] if few else said["rank"]),
        gemm_ns=seconds / max(1, compared),
        costs=_costs(calibrated),
        exploded=any(r["measured"]["exploded"] for r in rows),
    )


def _by_cell(ids: Int64, vectors: Float16, centroids: Float32) -> Block:
    cells = Quantiser(centroids).nearest(to_float32(vectors))
    order = np.argsort(cells, kind="stable")
    return Block(ids[order], vectors[order], cells[order])


def _propose(queries: Block, block: Block, lowest: float, counts: np.ndarray) -> Candidates:
    """All rows near enough; adds them to `counts`, and past the bound of an explosion only that."""
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
    queries: Block, block: Block, near: list[ScoredPairs], centroids: Float32, settings: SurveySettings
) -> Iterator[pa.RecordBatch]:
    """The pairs that the table must hold, those above min_similarity with what it takes to route them."""
    to_cells = queries.unit_vectors(slice(None)) @ centroids.T
    for found in near:
        own = found.best_of_a | (found.similarity >= np.float32(settings.min_similarity))
        i, j, similarity = found.i[own], found.j[own], found.similarity[own]
        routed = np.flatnonzero(similarity >= np.float32(settings.min_similarity))[:_MAX_ROUTED_PAIRS]
        gap, rank, unknown = np.zeros(len(i), np.float32), np.zeros(len(i), np.int32), np.ones(len(i), bool)
        gap[routed], rank[routed] = _routes(queries, block, i[routed], j[routed], to_cells, centroids)
        unknown[routed] = False
        nulls = [pa.nulls(len(i), kind) for kind in SURVEYED.arrow.types[5:]]
        pairs = [pa.array(x) for x in (queries.ids[i], block.ids[j], similarity)]
        routes = [pa.array(gap, mask=unknown), pa.array(rank, mask=unknown)]
        yield pa.RecordBatch.from_arrays([*pairs, *routes, *nulls], schema=SURVEYED.arrow)


def _routes(
    queries: Block, block: Block, i: Rows, j: Rows, to_cells: Float32, centroids: Float32
) -> tuple[np.ndarray, np.ndarray]:
    """For each pair the smaller of both ways: the gap to the other's home cell, and its rank, from 1."""
    ways = []
    for sims, home, other in (
        (to_cells[i], queries.cells[i], block.cells[j]),
        (block.unit_vectors(j) @ centroids.T, block.cells[j], queries.cells[i]),
    ):
        there = np.take_along_axis(sims, other[:, None], 1)
        gap = np.take_along_axis(sims, home[:, None], 1)[:, 0] - there[:, 0]
        ways.append((np.where(home == other, np.float32(-1), gap), 1 + (sims > there).sum(1)))
    return np.minimum(ways[0][0], ways[1][0]), np.minimum(ways[0][1], ways[1][1]).astype(np.int32)


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


def _costs(measured: dict[str, float] | None) -> SketchCosts:
    if measured is None:
        return SketchCosts()
    return SketchCosts(tuple(measured[f"first_{bits}"] for bits in FIRST_BITS), score=measured["score"])


def _nanoseconds(work: Callable[[], object], n: int, clock: Callable[[], float] = time.process_time) -> float:
    """The best of three, divided by `n`."""
    times = []
    for _ in range(3):
        begin = clock()
        work()
        times.append(clock() - begin)
    return 1e9 * min(times) / n

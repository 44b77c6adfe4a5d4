"""The survey: a random sample of representatives compared exactly with everything, before the join.

It serves to predict (how many pairs, neighbours, candidates), to choose (floor, bits, margin, engine), and after the
join to audit: a pair that the sample found exactly and the join did not is lost. It costs sample x n matrix products,
at most 1 % of an exact join, and 20 bytes per neighbour.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dedup_spark.kernels.arrays import Float16, Int64
from dedup_spark.kernels.joins.faiss_ivf import FLOAT16_ERROR
from dedup_spark.kernels.joins.sketches import FIRST_BITS, CosineHistogram, SketchCosts, negatives_of
from dedup_spark.stages.match.survey_task import GAP_BINS, RANK_BINS, SURVEYED, SurveySettings, survey_shard
from dedup_spark.stages.match.work_items import FILES
from dedup_spark.store.node_files import bytes_read
from dedup_spark.store.shards import ShardFiles, read_shard

_UNKNOWN_MARGIN = 0.4  # without a pair to measure: SSCD copies at cosine 0.45 are within 0.3 of each other's cells


@dataclass(frozen=True)
class Survey:
    """What the sample tells about the lake. Times are nanoseconds on one core of the executors; of `costs` those of the
    comparison of first bits and of a score are measured."""

    n_queries: int
    n_compared: int
    near: tuple[int, ...]  # neighbours of the sample above the floor, by COSINE_BINS
    negatives: CosineHistogram  # cosines of every two of the sample
    gaps: tuple[int, ...]  # vectors by how much farther than home their cell lies, by GAP_BINS
    n_routed: int
    margin: float
    n_probes: int
    gemm_ns: float
    costs: SketchCosts
    exploded: bool
    ranks: tuple[int, ...] = ()  # vectors by the probes that visit their cell, by RANK_BINS
    faiss_ns: float = math.inf  # per vector that FAISS scans; not measured: never chosen
    faiss_margin: float = FLOAT16_ERROR
    read_bytes: int = 0  # of shard files
    cells_per_row: float = 0.0  # all cells over the rows of a shard: what choosing the cells costs beside a scan

    def neighbours_per_image(self, cosine: float) -> float:
        """Mean number of other representatives with at least this cosine, in steps of 0.01."""
        return sum(self.near[round((cosine + 1) * 100) :]) / max(1, self.n_queries)

    def visited_share(self, margin: float) -> float:
        """Share of the lake that lies in the cells an image visits."""
        inside = sum(n for n, low in zip(self.gaps, GAP_BINS.tolist(), strict=False) if low <= margin)
        return inside / max(1, sum(self.gaps))

    def probed_share(self, n_probes: int) -> float:
        """Share of the lake that lies in the `n_probes` cells nearest to an image; 1 where it was not counted."""
        inside = sum(n for n, most in zip(self.ranks, RANK_BINS.tolist(), strict=False) if most <= n_probes)
        between = next((n for n, most in zip(self.ranks, RANK_BINS.tolist(), strict=False) if most > n_probes), 0)
        return (inside + between) / sum(self.ranks) if self.ranks else 1.0


def compare_with_shards(shard_rows: DataFrame, sample: tuple[Int64, Float16], settings: SurveySettings) -> DataFrame:
    """The sample's neighbours in each shard, and a row of counts and times for each; lazy. The sample is broadcast."""
    shared = shard_rows.sparkSession.sparkContext.broadcast(sample)

    def compare(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for shard in (row for batch in batches for row in batch.to_pylist()):
            is_first = shard["shard"] == 0
            searched = settings.faiss_k is not None and (is_first or shard["index_path"])
            before = bytes_read()
            read = read_shard(settings.root, ShardFiles.of(shard), with_index=bool(searched))
            n_bytes = bytes_read() - before
            yield from survey_shard(read, *shared.value, settings, times_sketches=is_first, read_bytes=n_bytes)

    return shard_rows.select("shard", *FILES).mapInArrow(compare, SURVEYED.ddl)


def summarise(surveyed: DataFrame, sample: Float16, min_recall: float) -> Survey:
    """One Survey of the sample and of the results of all shards; one row per shard comes to the driver."""
    n_queries = len(sample)
    enough = min_recall + (1 - min_recall) / 2
    of_shard = F.when(F.col("query_id").isNull(), F.struct("histograms", "measured"))
    answer = surveyed.agg(
        F.collect_list(of_shard).alias("shards"),
        F.count("gap").alias("n"),
        *[F.percentile(c, F.lit(enough)).alias(c) for c in ("gap", "rank", "faiss_error")],
        *[F.max(c).alias(f"max_{c}") for c in ("gap", "rank", "faiss_error")],
    ).first()
    assert answer is not None
    rows = answer["shards"]
    totals = {name: np.sum([r["histograms"][name] for r in rows], axis=0) for name in ("near", "gaps", "ranks")}
    compared = sum(r["measured"]["n_compared"] for r in rows)
    seconds = sum(r["measured"]["gemm_ns"] * r["measured"]["n_compared"] for r in rows)
    few = answer["n"] < 3 / (1 - enough)  # then the quantile is the largest value, and is unreliable
    totals["near"][-1] -= n_queries  # each was compared with itself
    timed = next((r["measured"] for r in rows if "score" in r["measured"]), None)
    return Survey(
        n_queries=n_queries,
        n_compared=int(compared),
        near=tuple(totals["near"].tolist()),
        negatives=negatives_of(sample),
        gaps=tuple(totals["gaps"].tolist()),
        n_routed=answer["n"],
        margin=_UNKNOWN_MARGIN if not answer["n"] else answer["max_gap"] * 1.5 + 0.05 if few else answer["gap"],
        n_probes=64 if not answer["n"] else math.ceil(2 * answer["max_rank"] if few else answer["rank"]),
        gemm_ns=seconds / max(1, compared),
        costs=_costs(timed),
        read_bytes=int(sum(r["measured"]["read_bytes"] for r in rows)),
        exploded=any(r["measured"]["exploded"] for r in rows),
        ranks=tuple(totals["ranks"].tolist()),
        faiss_ns=(timed or {}).get("faiss_ns", math.inf),
        faiss_margin=_faiss_margin(answer["max_faiss_error"] if few else answer["faiss_error"], few),
        cells_per_row=(timed or {}).get("n_cells", 0.0) * n_queries * len(rows) / max(1, compared),
    )


def _faiss_margin(error: float | None, few: bool) -> float:
    """What FAISS's scores are lowered by: that of float16, or what a coarser type of index was measured to need."""
    if error is None:
        return FLOAT16_ERROR
    return max(FLOAT16_ERROR, 1.5 * error + 0.01 if few else error)


def _costs(measured: dict[str, float] | None) -> SketchCosts:
    if measured is None:
        return SketchCosts()
    return SketchCosts(tuple(measured[f"first_{bits}"] for bits in FIRST_BITS), score=measured["score"])

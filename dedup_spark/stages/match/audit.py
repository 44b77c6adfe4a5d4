"""The audit: the exact neighbours of the survey's sample against the pairs that were found, to measure recall."""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np
from pyspark.sql import Column, DataFrame, Row, SparkSession, Window
from pyspark.sql import functions as F

from dedup_spark.config import MatchSettings
from dedup_spark.kernels.joins import recall
from dedup_spark.kernels.joins.recall import Recall
from dedup_spark.spark.local_relation import local_relation
from dedup_spark.stages.match.engine_choice import EXACT
from dedup_spark.store.schema import QUALITY
from dedup_spark.vocabulary import Metric

log = logging.getLogger(__name__)

_MAX_LOST_SHOWN = 1_000


def compare(surveyed: DataFrame, pairs: DataFrame, floor: float, settings: MatchSettings) -> DataFrame:
    """The true pairs of the sample, a row for each query: image_id_a, image_id_b, similarity, query_id, found.

    They are those above match.min_similarity, and the match.neighbours nearest of the query above `floor`.
    """
    mine = surveyed.where("query_id IS NOT NULL").select("query_id", "neighbour_id", "similarity")
    nearest_first = Window.partitionBy("query_id").orderBy(F.desc("similarity"), "neighbour_id")
    nearest = (F.row_number().over(nearest_first) <= settings.neighbours) & (F.col("similarity") >= _float(floor))
    near = F.col("similarity") >= _float(settings.min_similarity)
    wanted = mine.withColumn("nearest", nearest).where(near | F.col("nearest"))
    expected = wanted.select(
        F.least("query_id", "neighbour_id").alias("image_id_a"),
        F.greatest("query_id", "neighbour_id").alias("image_id_b"),
        "query_id",
        "similarity",
    )
    known = pairs.select("image_id_a", "image_id_b", F.lit(True).alias("found"))
    joined = expected.join(known, ["image_id_a", "image_id_b"], "left")
    return joined.withColumn("found", F.coalesce("found", F.lit(False)))


def measure(compared: DataFrame, n_queries: int, n_images: int, floor: float, settings: MatchSettings) -> list[Row]:
    """Rows of `quality`: recall above min_similarity, recall of each band, and lost pairs. One row per query and band
    comes to the driver."""
    edges = bands(floor, settings.min_similarity)
    band = F.lit(len(edges) - 2)
    for n in range(len(edges) - 3, -1, -1):
        band = F.when(F.col("similarity") < _float(edges[n + 1]), n).otherwise(band)
    per_query = compared.groupBy("query_id", band.alias("band")).agg(
        F.count("*").alias("n_true"), F.sum(F.col("found").cast("int")).alias("n_found")
    )
    counts = np.array([(r["query_id"], r["band"], r["n_true"], r["n_found"]) for r in per_query.collect()], np.int64)
    counts = counts.reshape(-1, 4)
    first = 1 if floor < settings.min_similarity else 0
    rows = [_recall_row(Metric.RECALL, edges[first], 1.0, _of(counts, range(first, len(edges)), n_queries, n_images))]
    for n in range(len(edges) - 1):
        estimate = _of(counts, range(n, n + 1), n_queries, n_images)
        rows.append(_recall_row(Metric.RECALL_OF_BAND, edges[n], edges[n + 1], estimate))
    if rows[0]["n_found"] == rows[0]["n_true"]:
        return rows
    return rows + lost(compared, settings.min_similarity)


def lost(compared: DataFrame, min_similarity: float) -> list[Row]:
    """Rows of `quality` for pairs above min_similarity that were not found, the nearest first."""
    missing = compared.where(~F.col("found") & (F.col("similarity") >= _float(min_similarity)))
    each = missing.groupBy("image_id_a", "image_id_b").agg(F.first("similarity").alias("similarity"))
    first = each.orderBy(F.desc("similarity"), "image_id_a", "image_id_b").limit(_MAX_LOST_SHOWN).collect()
    return [
        quality_row(
            metric=Metric.LOST_PAIR,
            value=float(r["similarity"]),
            image_id_a=r["image_id_a"],
            image_id_b=r["image_id_b"],
        )
        for r in first
    ]


def recall_in_words(rows: list[Row], engine: str, settings: MatchSettings) -> str:
    """The recall, what it means and what to change; logged, as a warning where it is below match.min_recall."""
    overall = next(r for r in rows if r["metric"] == Metric.RECALL)
    if overall["value"] is None:
        unknown = f"no pair above {settings.min_similarity:g} among the {overall['n_queries']:,} images of the sample"
        log.info("match: recall unknown: %s", unknown)
        return unknown
    measured = (
        f"recall {overall['value']:.5f} (95 % interval {overall['low']:.5f} to {overall['high']:.5f}; "
        f"{overall['n_found']:,} of {overall['n_true']:,} pairs of {overall['n_queries']:,} images)"
    )
    if overall["value"] >= settings.min_recall:
        log.info("match: %s", measured)
        return measured
    further = (
        "" if engine in EXACT else ", and with match.engine=exact, or a higher match.min_recall, if that misses some"
    )
    certain = "" if overall["high"] < settings.min_recall else " by the estimate, though the interval allows it"
    advice = (
        f"{measured} is below match.min_recall ({settings.min_recall:g}){certain}: pairs are missing. "
        "Compare everything again, by `dedup-spark match --full` with the same --tables and --lake"
        f"{further}; the lost pairs of the sample are in `quality`"
    )
    log.warning("match: %s", advice)
    return advice


def bands(floor: float, min_similarity: float) -> list[float]:
    """Edges of similarity: the floor, min_similarity, and every tenth above, up to 1."""
    tenths = [n / 10 for n in range(math.floor(10 * min_similarity + 1e-9) + 1, 10)]
    return sorted({floor, min_similarity, *(t for t in tenths if t > min_similarity + 1e-9), 1.0})


def candidates_row(totals: dict[str, Any]) -> Row:
    """How many candidates the engine scored per pair that its task kept: the precision of the sketch radius."""
    n_pairs, n_candidates = totals["n_pairs"], totals["n_candidates"]
    value = n_candidates / n_pairs if n_pairs else None
    return quality_row(metric=Metric.CANDIDATES_PER_PAIR, n_true=n_pairs, n_found=n_candidates, value=value)


def as_table(spark: SparkSession, rows: list[Row], run_id: str, recall_note: str) -> DataFrame:
    """The rows with the run, and a note on the row of the recall."""
    notes = {Metric.RECALL: recall_note}
    filled = [row.asDict() | {"run_id": run_id, "note": notes.get(row["metric"])} for row in rows]
    return local_relation(spark, [tuple(row[name] for name in QUALITY.column_names) for row in filled], QUALITY.schema)


def quality_row(**values: Any) -> Row:
    """A row of `quality`; what is left out is null."""
    return Row(*QUALITY.column_names)(*(values.get(name) for name in QUALITY.column_names))


def _recall_row(metric: str, low: float, high: float, found: Recall) -> Row:
    return quality_row(
        metric=metric,
        similarity_low=low,
        similarity_high=high,
        n_queries=found.n_queries,
        n_true=found.n_true,
        n_found=found.n_found,
        value=None if math.isnan(found.value) else found.value,
        low=found.low,
        high=found.high,
    )


def _of(counts: np.ndarray, of_bands: range, n_queries: int, n_images: int) -> Recall:
    """Recall of some bands; queries without a pair there count as queries with none."""
    mine = counts[np.isin(counts[:, 1], list(of_bands))]
    queries, place = np.unique(mine[:, 0], return_inverse=True)
    n_true, n_found = (np.bincount(place, mine[:, c], minlength=len(queries)) for c in (2, 3))
    padding = np.zeros(n_queries - len(queries))
    return recall.estimate(np.append(n_true, padding), np.append(n_found, padding), n_images)


def _float(value: float) -> Column:
    return F.lit(value).cast("float")

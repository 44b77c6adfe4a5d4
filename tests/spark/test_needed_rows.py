"""What a join does not need of a wide table stays where it is: no shuffle moves it."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from fabricated import fill, frame, random_ids, readable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dedup_spark.commands.calibrate.step import lake_and_copies
from dedup_spark.kernels.comparing import probability
from dedup_spark.spark import needed_rows
from dedup_spark.spark.needed_rows import only_needed
from dedup_spark.stages.cluster import evidence
from dedup_spark.stages.cluster.consensus import with_consensus
from dedup_spark.stages.cluster.relations import EVIDENCE_USED, related_to_keeper
from dedup_spark.stages.scoring import score_pairs
from dedup_spark.store.schema import FEATURES
from dedup_spark.store.tables import Tables

SETTINGS = evidence.EvidenceSettings(probability.PRIORS["sscd_distilled"], 0.15, 32, 1_000)


@pytest.fixture
def is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything counts as large; a filter of 128 KB instead of 16 MB."""
    monkeypatch.setattr(needed_rows, "_SMALL_BYTES", 0)
    monkeypatch.setattr(needed_rows, "_FILTER_BITS", 20)


@pytest.mark.usefixtures("is_large")
@pytest.mark.parametrize("n_ids", [0, 1, 20_000])
def test_all_rows_that_are_needed_pass_and_hardly_another(spark: SparkSession, n_ids: int) -> None:
    ids = random_ids(200_000, np.random.default_rng(31))
    every, needed = (
        spark.createDataFrame(pa.table({"image_id": part})) for part in (ids, [*ids[:n_ids], *ids[:n_ids]])
    )
    passed = {row["image_id"] for row in only_needed(every, needed).collect()}
    assert passed >= set(ids[:n_ids])
    assert len(passed) - n_ids <= 0.002 * len(ids)  # (1 - exp(-2 x 20,000 / 2^20))^2 = 0.0014


def test_of_a_small_table_all_rows_are_shuffled(spark: SparkSession) -> None:
    every = spark.range(10).toDF("image_id")
    assert only_needed(every, every.limit(1)) is every


def verified(features: DataFrame, ids: DataFrame) -> DataFrame:
    none = F.array().cast("array<bigint>")
    scores = F.array(F.struct(F.lit(0.5).alias("prior"), F.lit(9).alias("hamming_bits"), F.lit(False).alias("is_sure")))
    queries = ids.select(
        F.lit(0).alias("part"), F.lit(1).cast("bigint").alias("label"), F.col("image_id").alias("query_id"),
        F.lit(0).alias("chunk"), F.array("image_id").alias("candidates"), scores.alias("scores"),
        none.alias("neighbours"),
    )  # fmt: skip
    return evidence.verify_queries(queries, features, 2, SETTINGS)


def related(features: DataFrame, ids: DataFrame) -> DataFrame:
    kept = ids.select(
        F.col("image_id").alias("representative_id"), F.lit(7).cast("bigint").alias("keeper_representative_id")
    )
    known = [F.lit(None).cast("string").alias(name) for name in EVIDENCE_USED]
    return related_to_keeper(
        kept, ids.select(F.lit(1).alias("image_id_a"), F.lit(2).alias("image_id_b"), *known), features
    )


def of_most(features: DataFrame, ids: DataFrame) -> DataFrame:
    members = ids.select(
        F.lit(1).cast("bigint").alias("label"), F.col("image_id").alias("representative_id"), "image_id"
    )
    return with_consensus(members, features, 100)


def scored(features: DataFrame, ids: DataFrame) -> DataFrame:
    return score_pairs(
        ids.select(F.col("image_id").alias("image_id_a"), F.lit(9).cast("bigint").alias("image_id_b")), features
    )


def calibrated(features: DataFrame, ids: DataFrame) -> DataFrame:
    everything = lake_and_copies(features, features.limit(0))
    return only_needed(everything.select("image_id", "thumbnail"), ids).join(ids, "image_id")


@pytest.mark.usefixtures("is_large")
@pytest.mark.parametrize("join", [verified, related, of_most, scored, calibrated])
def test_no_join_shuffles_thumbnails_or_embeddings_of_all_images(
    tables: Tables, join: Callable[[DataFrame, DataFrame], DataFrame]
) -> None:
    fill(tables, feature_rows=[readable(i) for i in range(4)])
    tables.spark.conf.set("spark.sql.autoBroadcastJoinThreshold", "-1")  # as where neither side is small
    try:
        joined = join(
            tables.read(FEATURES), tables.stage("ids", frame(tables.spark, "image_id bigint", [{"image_id": 2}]))
        )
        wide = [path for path in paths_of_scans(joined) if re.search(r"thumbnail|embedding", path[-1])]
    finally:
        tables.spark.conf.unset("spark.sql.autoBroadcastJoinThreshold")
    assert wide
    for path in wide:
        below = path[max((n for n, line in enumerate(path) if "Exchange" in line), default=0) :]
        assert any("Filter" in line and "scalar-subquery" in line for line in below), "\n".join(path)


def paths_of_scans(rows: DataFrame) -> list[list[str]]:
    """For each scan of a file in the physical plan the operators from the root down to it."""
    plan = rows._jdf.queryExecution().executedPlan().toString()  # type: ignore[operator]
    path: list[tuple[int, str]] = []
    found = []
    for line in plan.splitlines():
        if "Subquery" in line and "scalar-subquery#" in line and "Filter" not in line and "FileScan" not in line:
            continue
        depth = len(line) - len(line.lstrip(" :+-*"))
        path = [(d, text) for d, text in path if d < depth] + [(depth, line)]
        if "FileScan" in line:
            found.append([text for _, text in path])
    return found

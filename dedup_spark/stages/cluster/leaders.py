"""The pairs of each group's leaders with its members: what the second cut rests on. Part of the step cluster."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dedup_spark.columns import Columns
from dedup_spark.kernels.clusters.leaders import find_leaders
from dedup_spark.spark.arrow_groups import whole_groups

_LEAST_COVERED = 0.55
"""Of the larger picture of a pair that counts, so much is seen."""
_FOUND = Columns("label bigint, query_id bigint")


def leader_pairs(labels: DataFrame, evidence: DataFrame) -> DataFrame:
    """(image_id_a, image_id_b, query_id): the pairs of each group's leaders with its members that have no evidence yet.

    A keeper among the leaders (kernels/clusters/leaders.py) has evidence of its own on every member. A pair counts from
    a copy_probability of 0.5, but not where one shows the other as a small part: two pictures side by side are likely
    copies of all copies of both, which are none of each other. Mostly 3 pairs per member; one shuffle of 24 bytes per
    likely pair.
    """
    of_a, of_b = (
        labels.select(F.col("image_id").alias(f"image_id_{s}"), F.col("cluster_label").alias(s)) for s in "ab"
    )
    inside = evidence.join(of_a, "image_id_a").join(of_b, "image_id_b").where("a = b")
    shows_most = F.coalesce(F.least("covered_a", "covered_b"), F.lit(1.0)) >= _LEAST_COVERED
    likely = inside.where((F.col("copy_probability") >= 0.5) & shows_most)
    members = labels.select(
        F.col("cluster_label").alias("label"), *[F.col("image_id").alias(f"image_id_{s}") for s in "ab"]
    )
    rows = members.unionByName(likely.select(F.col("a").alias("label"), "image_id_a", "image_id_b"))
    together = rows.repartition("label").sortWithinPartitions("label", "image_id_a", "image_id_b")
    leaders = together.mapInArrow(_leader_batches, _FOUND.ddl)
    pairs = leaders.join(members.select("label", F.col("image_id_a").alias("image_id")), "label")
    named = pairs.where("query_id <> image_id").select(
        F.least("query_id", "image_id").alias("image_id_a"),
        F.greatest("query_id", "image_id").alias("image_id_b"),
        "query_id",
    )
    once = named.groupBy("image_id_a", "image_id_b").agg(F.min("query_id").alias("query_id"))
    return once.join(evidence, ["image_id_a", "image_id_b"], "left_anti")


def _leader_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """On executors: each member as a pair with itself, and the likely pairs, sorted by label, to leaders."""
    for rows in whole_groups(batches, "label"):
        a, b = rows["image_id_a"].to_numpy(), rows["image_id_b"].to_numpy()
        ids, apart = a[a == b], a != b
        found = find_leaders(np.searchsorted(ids, a[apart]), np.searchsorted(ids, b[apart]), len(ids))
        label = np.full(len(found), rows["label"][0].as_py(), np.int64)
        yield pa.RecordBatch.from_arrays([pa.array(label), pa.array(ids[found])], _FOUND.names)

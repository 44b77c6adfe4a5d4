"""The pairs of each group's leaders with its members."""

from __future__ import annotations

from fabricated import frame
from pyspark.sql import SparkSession

from dedup_spark.stages.cluster.leaders import leader_pairs
from dedup_spark.store.schema import EVIDENCE


def test_leaders_get_evidence_with_every_member_of_their_group(spark: SparkSession) -> None:
    labels = frame(spark, "image_id bigint, cluster_label bigint", [
        {"image_id": i, "cluster_label": 1 if i < 10 else 10} for i in (1, 2, 3, 4, 5, 10, 11)
    ])  # fmt: skip
    known = [(1, 2, 0.9), (1, 3, 0.9), (1, 4, 0.9), (2, 3, 0.9), (2, 4, 0.1), (4, 5, 0.8), (10, 11, 0.9), (5, 10, 0.9)]
    evidence = frame(
        spark, EVIDENCE.schema,
        [{"image_id_a": a, "image_id_b": b, "copy_probability": p} for a, b, p in known],
    )  # fmt: skip
    found = sorted((r["image_id_a"], r["image_id_b"], r["query_id"]) for r in leader_pairs(labels, evidence).collect())
    assert found == [(1, 5, 1), (2, 5, 2), (3, 4, 3), (3, 5, 3)], "leaders 1, 2 and 3"


def test_a_picture_that_shows_another_as_a_small_part_is_no_leader(spark: SparkSession) -> None:
    ids = [1, 2, 3, 4]
    labels = frame(spark, "image_id bigint, cluster_label bigint", [{"image_id": i, "cluster_label": 1} for i in ids])
    rows = [
        {"image_id_a": 1, "image_id_b": i, "copy_probability": 0.99, "covered_a": 0.3, "covered_b": 1.0}
        for i in ids[1:]
    ] + [{"image_id_a": 2, "image_id_b": 3, "copy_probability": 0.99, "covered_a": 1.0, "covered_b": 0.9}]
    found = leader_pairs(labels, frame(spark, EVIDENCE.schema, rows)).collect()
    assert sorted((r["image_id_a"], r["image_id_b"], r["query_id"]) for r in found) == [(2, 4, 2), (3, 4, 3)]

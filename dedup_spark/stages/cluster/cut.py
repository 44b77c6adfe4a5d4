"""The cut: components to final groups, by hierarchical clustering inside each. Part of the step cluster."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dedup_spark.config import Config
from dedup_spark.kernels.arrays import Int64
from dedup_spark.kernels.clusters import linkage
from dedup_spark.kernels.clusters.grouping import group_component
from dedup_spark.kernels.clusters.probability import MIN_GROUP_PROBABILITY
from dedup_spark.kernels.vectors import from_bytes
from dedup_spark.spark.arrow_groups import whole_groups

_LABELLED = "image_id bigint, cluster_label bigint"


@dataclass(frozen=True)
class CutSettings:
    """What a task needs to cut a component: by cosine, or, without embeddings, by the share of equal pHash bits."""

    min_similarity: float
    min_agreement: float
    linkage: str
    max_component_images: int


def cut_settings(config: Config) -> CutSettings:
    """The part of the settings that tasks need."""
    c = config.cluster
    return CutSettings(c.min_similarity, 1 - config.match.max_hamming_bits / 64, c.linkage, c.max_component_images)


def cut_by_likeness(components: DataFrame, unique: DataFrame, settings: CutSettings) -> DataFrame:
    """(image_id, cluster_label) for every representative in a component; lazy."""
    vectors = components.join(unique, "image_id").select("component_id", "image_id", "phash", "embedding")
    together = vectors.repartition("component_id").sortWithinPartitions("component_id", "image_id")
    return together.mapInArrow(functools.partial(_cut_batches_by_likeness, settings=settings), _LABELLED)


def cut_by_evidence(
    components: DataFrame, evidence: DataFrame, settings: CutSettings, *, settled: bool = False
) -> DataFrame:
    """(image_id, cluster_label) for every representative in a component, by the evidence on its pairs; lazy.

    `settled`: the leaders were compared with all members (kernels/clusters/grouping.py). Two joins and one shuffle of
    28 bytes per pair.
    """
    a, b = (components.select(F.col("image_id").alias(f"image_id_{s}"), F.col("component_id").alias(s)) for s in "ab")
    inside = evidence.join(a, "image_id_a").join(b, "image_id_b").where("a = b")
    pairs = inside.select(F.col("a").alias("component_id"), "image_id_a", "image_id_b", "copy_probability")
    members = components.select(
        "component_id", F.col("image_id").alias("image_id_a"), F.col("image_id").alias("image_id_b"),
        F.lit(1).cast("float").alias("copy_probability"),
    )  # fmt: skip
    together = members.unionByName(pairs).repartition("component_id")
    ordered = together.sortWithinPartitions("component_id", "image_id_a", "image_id_b")
    return ordered.mapInArrow(
        functools.partial(_cut_batches_by_evidence, settings=settings, settled=settled), _LABELLED
    )


def _cut_batches_by_evidence(
    batches: Iterable[pa.RecordBatch], settings: CutSettings, *, settled: bool
) -> Iterator[pa.RecordBatch]:
    """On executors: each member as a pair with itself, and the pairs, sorted by component, to labels."""
    for rows in whole_groups(batches, "component_id"):
        a, b = rows["image_id_a"].to_numpy(), rows["image_id_b"].to_numpy()
        ids, probability = a[a == b], rows["copy_probability"].to_numpy().astype(np.float64)
        labels = []
        for start in range(0, len(ids), settings.max_component_images):
            mine = ids[start : start + settings.max_component_images]
            inside = (a != b) & np.isin(a, mine) & np.isin(b, mine)
            at_a, at_b = (np.searchsorted(mine, x[inside]) for x in (a, b))
            p, cut, method = probability[inside], MIN_GROUP_PROBABILITY, settings.linkage
            labels.append(group_component(len(mine), at_a, at_b, p, cut, method, settled=settled) + start)
        yield pa.RecordBatch.from_arrays(
            [pa.array(ids), pa.array(ids[np.concatenate(labels)])], ["image_id", "cluster_label"]
        )


def _cut_batches_by_likeness(batches: Iterable[pa.RecordBatch], settings: CutSettings) -> Iterator[pa.RecordBatch]:
    """On executors: rows sorted by component to (image_id, cluster_label)."""
    for rows in whole_groups(batches, "component_id"):
        ids = rows["image_id"].to_numpy()
        labels = [_cut_one(rows.slice(i, settings.max_component_images), settings) + i
                  for i in range(0, len(ids), settings.max_component_images)]  # fmt: skip
        yield pa.RecordBatch.from_arrays(
            [pa.array(ids), pa.array(ids[np.concatenate(labels)])], ["image_id", "cluster_label"]
        )


def _cut_one(rows: pa.Table, settings: CutSettings) -> Int64:
    if rows["embedding"].null_count == 0:
        similarity = linkage.cosine_matrix(from_bytes(rows["embedding"].to_pylist()))
        return linkage.cut_component(similarity, settings.min_similarity, settings.linkage)
    agreement = linkage.agreement_matrix(rows["phash"].to_numpy())
    return linkage.cut_component(agreement, settings.min_agreement, settings.linkage)

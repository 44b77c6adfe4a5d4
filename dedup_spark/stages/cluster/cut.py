"""The cut: components to final groups, by hierarchical clustering inside each. Part of the step cluster.

stages/cluster/component_tree.py makes the tree of one component anew from the tables, with the functions that cut it
here.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from dedup_spark.config import Config
from dedup_spark.errors import ConfigError
from dedup_spark.kernels.arrays import Float64, Int64
from dedup_spark.kernels.clusters import linkage
from dedup_spark.kernels.clusters.grouping import group_component
from dedup_spark.kernels.clusters.pieces import rows_of_pieces
from dedup_spark.kernels.comparing.probability import MIN_GROUP_PROBABILITY, prior_of
from dedup_spark.kernels.vectors import from_bytes
from dedup_spark.spark.arrow_groups import whole_groups
from dedup_spark.vocabulary import DistanceUnit

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

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


def require_linkage(config: Config, model: str | None) -> None:
    """Raise ConfigError where the linkage is not defined for what decides between images embedded by this model."""
    if config.cluster.linkage == linkage.WARD and prior_of(model, config.cluster.prior):
        raise ConfigError(
            "cluster.linkage=ward: Ward's method is defined for Euclidean distances; these images are grouped by the "
            "probability that they are copies, which is none. Choose average or complete; ward is there for hashes "
            "alone and for models without a calibration"
        )


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
    from pyspark.sql import functions as F  # here, because trees of components are shown without Spark too

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
        labels, size = [], settings.max_component_images
        for number, mine_rows in enumerate(rows_of_pieces(ids, a, b, size)):
            mine = ids[number * size : (number + 1) * size]
            pairs = pairs_inside(mine, a[mine_rows], b[mine_rows], probability[mine_rows])
            cut, method = MIN_GROUP_PROBABILITY, settings.linkage
            labels.append(group_component(len(mine), *pairs, cut, method, settled=settled) + number * size)
        yield pa.RecordBatch.from_arrays(
            [pa.array(ids), pa.array(ids[np.concatenate(labels)])], ["image_id", "cluster_label"]
        )


def pairs_inside(ids: Int64, a: Int64, b: Int64, probability: Float64) -> tuple[Int64, Int64, Float64]:
    """Of pairs of image ids those between two of `ids` (ascending), as places in `ids`, with their probability."""
    inside = (a != b) & np.isin(a, ids) & np.isin(b, ids)
    at_a, at_b = (np.searchsorted(ids, x[inside]) for x in (a, b))
    return at_a, at_b, probability[inside]


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
    likeness = likeness_of(rows, settings)
    return linkage.cut_component(likeness.similarity, likeness.cut, settings.linkage)


@dataclass(frozen=True)
class Likeness:
    """(n, n) similarities of the members of one component, in a unit, and the similarity at which it is cut."""

    similarity: Float64
    unit: DistanceUnit
    cut: float


def likeness_of(rows: pa.Table, settings: CutSettings) -> Likeness:
    """Cosines where all rows (phash, embedding) have an embedding, else shares of equal pHash bits."""
    if rows["embedding"].null_count == 0:
        cosines = linkage.cosine_matrix(from_bytes(rows["embedding"].to_pylist()))
        return Likeness(cosines, DistanceUnit.SIMILARITY, settings.min_similarity)
    agreement = linkage.agreement_matrix(rows["phash"].to_numpy())
    return Likeness(agreement, DistanceUnit.HAMMING_BITS, settings.min_agreement)

"""Which images of the lake show the same picture as a sampled one, so that they are no negatives of its copies.

After a run `clusters` says it. A model without a calibration has no clusters yet, and needs the calibration for them:
there the thumbnails say it, as spatial verification does not depend on the model.
"""

from __future__ import annotations

import logging

import numpy as np
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from dedup_spark.kernels.clusters.components import label_components
from dedup_spark.kernels.comparing import probability
from dedup_spark.spark.local_relation import local_relation
from dedup_spark.stages.cluster.evidence import EvidenceSettings, evidence_of
from dedup_spark.store.schema import CLUSTERS, DENSITIES, PAIRS
from dedup_spark.store.tables import Tables
from dedup_spark.vocabulary import IDENTICAL, DecidedBy

log = logging.getLogger(__name__)

_SHOWN = "image_id bigint, cluster_id bigint"


def shown_pictures(
    tables: Tables, copies: DataFrame, unique: DataFrame, settings: EvidenceSettings, n: int
) -> DataFrame:
    """(image_id, cluster_id) as in `clusters`, or, where that is empty, for the images near the originals of `copies`.

    `unique` has (image_id, thumbnail) of the lake's representatives. Of each original the thumbnails of its `n` nearest
    candidates are compared, about 10 ms each on one core.
    """
    clusters = tables.read(CLUSTERS)
    if not clusters.isEmpty():
        return clusters.select("image_id", "cluster_id")
    log.info("calibrate: there are no clusters yet; thumbnails say which images show the same picture as a sampled one")
    originals = copies.select(F.col("copy_of").alias("query_id")).distinct()
    near = tables.stage("calibration_candidates", candidates_of(originals, tables.read(PAIRS), n))
    if near.isEmpty():
        return local_relation(tables.spark, [], _SHOWN)
    evidence = evidence_of(near, tables.read(DENSITIES), unique, tables, settings)
    rows = evidence.where(is_shown()).select("image_id_a", "image_id_b").toArrow()
    a, b = (rows[c].to_numpy().astype(np.int64) for c in ("image_id_a", "image_id_b"))
    images, pictures = label_components(a, b)
    return local_relation(tables.spark, zip(images.tolist(), pictures.tolist(), strict=True), _SHOWN)


def candidates_of(originals: DataFrame, pairs: DataFrame, n: int) -> DataFrame:
    """(image_id_a, image_id_b, similarity, hamming_bits, query_id): the `n` nearest pairs of each original, each once.

    An original is the query image of its pairs; of two originals it is the smaller.
    """
    found = pairs.where(~F.col("method").isin(*IDENTICAL))
    ends = F.explode(F.array("image_id_a", "image_id_b")).alias("query_id")
    mine = found.select("image_id_a", "image_id_b", "similarity", "hamming_bits", ends).join(originals, "query_id")
    place = F.row_number().over(
        Window.partitionBy("query_id").orderBy(F.desc("similarity"), "image_id_a", "image_id_b")
    )
    nearest = mine.withColumn("place", place).where(F.col("place") <= n)
    return nearest.groupBy("image_id_a", "image_id_b").agg(
        F.first("similarity").alias("similarity"),
        F.first("hamming_bits").alias("hamming_bits"),
        F.min("query_id").alias("query_id"),
    )


def is_shown() -> Column:
    """For rows of `evidence`: the thumbnails say that it is one picture, or cosine and pHash are those of a copy."""
    p = probability
    by_thumbnail = (F.col("decided_by") == DecidedBy.GEOMETRY) & (F.col("copy_probability") >= p.MIN_GROUP_PROBABILITY)
    is_sure = (F.col("similarity") >= p.SURE_SIMILARITY) & (F.col("hamming_bits") <= p.SURE_HAMMING_BITS)
    return by_thumbnail | F.coalesce(is_sure, F.lit(False))

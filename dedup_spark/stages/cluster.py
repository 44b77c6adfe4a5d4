"""Cluster: pairs to groups of the same picture, a keeper for each, and the reason for every member.

Reads: images, features, pairs
Writes: clusters
Kernels: ann, components, linkage
Scale: a few shuffles of 16-byte edges; embeddings of clustered representatives once, by component; linkage needs
n squared memory within one component, at most cluster.max_component_images.
"""

from __future__ import annotations

import functools
import itertools
import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from dedup_spark.config import ClusterSettings, Config
from dedup_spark.errors import ConfigError, GuardError
from dedup_spark.kernels import ann, linkage
from dedup_spark.runs import Run
from dedup_spark.stages.components import bounded_components
from dedup_spark.stages.representatives import representatives, with_representative
from dedup_spark.stages.scoring import score_pairs
from dedup_spark.tables import CLUSTERS, FEATURES, IMAGES, PAIRS

log = logging.getLogger(__name__)

_LABELLED = "image_id bigint, cluster_label bigint"
_MIN_IMAGES_FOR_GUARD = 1000  # in a small folder one large group is no alarm


@dataclass(frozen=True)
class CutSettings:
    """What a task needs to cut a component: by cosine, or, without embeddings, by the share of equal pHash bits."""

    min_similarity: float
    min_agreement: float
    linkage: str
    max_component_images: int


def run(spark: SparkSession, config: Config, run: Run) -> None:
    """Components, then linkage inside each, then members, keepers, relations and reasons."""
    tables, settings = run.tables, config.cluster
    images, features = tables.read(IMAGES), tables.read(FEATURES)
    require_keeper_order(images, features, settings)
    unique = tables.stage("unique", representatives(features).select("image_id", "phash", "embedding"))
    edges = tables.stage("edges", near_edges(tables.read(PAIRS), settings))
    components = bounded_components(edges, tables, settings.max_component_images, settings.max_driver_pairs)
    labels = tables.stage("labels", cut_components(components, unique, cut_settings(config)))

    members = tables.stage("members", expand(labels, features))
    kept = tables.stage("kept", choose_keepers(members, images, features, settings))
    _guard_against_a_giant(kept, images.count(), settings.max_cluster_share)
    scores = score_pairs(keeper_pairs(kept), unique)
    tables.overwrite(CLUSTERS, with_reasons(kept, scores, config))
    tables.drop_staged()
    clusters = tables.read(CLUSTERS)
    run.count(clusters=clusters.where("is_keeper").count(), members=clusters.count())


def cut_settings(config: Config) -> CutSettings:
    """The part of the settings that tasks need."""
    c = config.cluster
    return CutSettings(c.min_similarity, 1 - config.match.max_hamming_bits / 64, c.linkage, c.max_component_images)


def near_edges(pairs: DataFrame, settings: ClusterSettings) -> DataFrame:
    """Edges (a, b, similarity) between representatives that are near enough to share a cluster.

    Linkage joins two groups only where some pair reaches the cut, so weaker pairs cannot matter. Without
    embeddings the share of equal pHash bits stands for the similarity.
    """
    near = pairs.where(~F.col("method").isin("same_bytes", "same_pixels"))
    similarity = F.coalesce("similarity", 1 - F.col("hamming_bits") / 64)
    edges = near.select(F.col("image_id_a").alias("a"), F.col("image_id_b").alias("b"), similarity.alias("similarity"))
    return edges.where(F.col("similarity") >= settings.min_similarity)


def cut_components(components: DataFrame, unique: DataFrame, settings: CutSettings) -> DataFrame:
    """(image_id, cluster_label) for every representative in a component; lazy."""
    vectors = components.join(unique, "image_id").select("component_id", "image_id", "phash", "embedding")
    together = vectors.repartition("component_id").sortWithinPartitions("component_id", "image_id")
    return together.mapInArrow(functools.partial(_cut_batches, settings=settings), _LABELLED)


def expand(labels: DataFrame, features: DataFrame) -> DataFrame:
    """Members of clusters of two or more: image_id, hashes, representative_id, cluster_id.

    A representative without near neighbours still leads its identical copies. The label is the smallest
    representative, which is the smallest image_id of its own group, hence of the whole cluster.
    """
    everyone = with_representative(features).join(
        labels.withColumnRenamed("image_id", "representative_id"), "representative_id", "left"
    )
    named = everyone.withColumn("cluster_id", F.coalesce("cluster_label", "representative_id")).drop("cluster_label")
    sizes = named.groupBy("cluster_id").agg(F.count("*").alias("cluster_size")).where("cluster_size > 1")
    return named.join(sizes, "cluster_id")


def choose_keepers(members: DataFrame, images: DataFrame, features: DataFrame, settings: ClusterSettings) -> DataFrame:
    """Add uri, member, size_bytes, phash and the keeper's id and hashes to each member."""
    known = [c for c in features.columns if c in ("object_version", *members.columns) and c != "image_id"]
    facts = images.join(features.drop(*known), "image_id")
    described = members.join(facts, "image_id")
    order = [*keeper_columns(settings.keeper_order), F.col("image_id").asc()]
    rank = F.row_number().over(Window.partitionBy("cluster_id").orderBy(*order))
    ranked = described.withColumn("rank", rank).select(*members.columns, "uri", "member", "size_bytes", "phash", "rank")
    keepers = ranked.where("rank = 1").select(
        "cluster_id",
        *[F.col(c).alias(f"keeper_{c}") for c in ("image_id", "representative_id", "content_hash", "pixel_hash")],
    )
    return ranked.join(keepers, "cluster_id").drop("rank")


def keeper_columns(keeper_order: tuple[str, ...]) -> list[Column]:
    """`expression ASC|DESC` items to sort columns; nulls last, so that an unknown value never wins."""
    columns = []
    for item in keeper_order:
        expression, direction = re.fullmatch(r"(?is)\s*(.*?)(?:\s+(asc|desc))?\s*", item).groups()  # type: ignore[union-attr]
        column = F.expr(expression)
        columns.append(column.desc_nulls_last() if (direction or "asc").lower() == "desc" else column.asc_nulls_last())
    return columns


def require_keeper_order(images: DataFrame, features: DataFrame, settings: ClusterSettings) -> None:
    """Raise ConfigError when cluster.keeper_order is not SQL over the columns of images and features."""
    facts = images.join(features.drop("object_version"), "image_id")
    for item in settings.keeper_order:
        try:
            facts.orderBy(*keeper_columns((item,))).schema  # noqa: B018 - asking for the schema analyses the plan
        except (AnalysisException, ParseException) as e:
            raise ConfigError(
                f"cluster.keeper_order: '{item}' is not an SQL expression over images and features "
                f"followed by ASC or DESC: {str(e).strip().splitlines()[0]}"
            ) from e


def keeper_pairs(kept: DataFrame) -> DataFrame:
    """Distinct (smaller, larger) pairs of representatives of members and their keepers."""
    ids = ("representative_id", "keeper_representative_id")
    apart = kept.where(F.col(ids[0]) != F.col(ids[1]))
    return apart.select(F.least(*ids).alias("image_id_a"), F.greatest(*ids).alias("image_id_b")).distinct()


def with_reasons(kept: DataFrame, scores: DataFrame, config: Config) -> DataFrame:
    """The rows of `clusters`: relation, scores and the reason in words."""
    ids = ("representative_id", "keeper_representative_id")
    a, b = F.least(*ids), F.greatest(*ids)
    scored = kept.withColumns({"image_id_a": a, "image_id_b": b}).join(scores, ["image_id_a", "image_id_b"], "left")
    is_keeper = F.col("image_id") == F.col("keeper_image_id")
    same_picture = F.col("pixel_hash") == F.col("keeper_pixel_hash")
    near = (F.col("similarity") >= config.cluster.min_similarity) | (
        F.col("hamming_bits") <= config.match.max_hamming_bits
    )
    relation = (
        F.when(is_keeper, F.lit(None))
        .when(F.col("content_hash") == F.col("keeper_content_hash"), "same_bytes")
        .when(same_picture, "same_pixels")
        .when(near, "edited_copy")
        .otherwise("similar_scene")
    )
    similarity = F.when(same_picture & F.col("model_id").isNotNull(), 1.0).otherwise(F.col("similarity"))
    decided = scored.select(
        "image_id", "uri", "member", "cluster_id", "cluster_size", "keeper_image_id", "size_bytes",
        is_keeper.alias("is_keeper"),
        relation.cast("string").alias("relation"),
        similarity.cast("float").alias("similarity"),
        F.when(same_picture, 0).otherwise(F.col("hamming_bits")).cast("int").alias("hamming_bits"),
    )  # fmt: skip
    return decided.withColumn("reason", _reason())


def _reason() -> Column:
    scores = F.concat_ws(
        ", ",
        F.when(F.col("similarity").isNotNull(), F.format_string("cosine %.3f", "similarity")),
        F.format_string("pHash differs in %d of 64 bits", "hamming_bits"),
    )
    return (
        F.when(F.col("is_keeper"), "kept: first by cluster.keeper_order")
        .when(F.col("relation") == "same_bytes", "byte for byte the keeper")
        .when(F.col("relation") == "same_pixels", "decodes to the keeper's pixels; the files differ")
        .when(F.col("relation") == "edited_copy", F.concat(F.lit("near the keeper: "), scores))
        .otherwise(F.concat(F.lit("near other members, less near the keeper: "), scores))
    )


def _cut_batches(batches: Iterable[pa.RecordBatch], settings: CutSettings) -> Iterator[pa.RecordBatch]:
    """On executors: rows sorted by component to (image_id, cluster_label)."""
    for rows in _whole_components(batches):
        ids = rows["image_id"].to_numpy()
        labels = [_cut_one(rows.slice(i, settings.max_component_images), settings) + i
                  for i in range(0, len(ids), settings.max_component_images)]  # fmt: skip
        yield pa.RecordBatch.from_arrays(
            [pa.array(ids), pa.array(ids[np.concatenate(labels)])], ["image_id", "cluster_label"]
        )


def _cut_one(rows: pa.Table, settings: CutSettings) -> linkage.Labels:
    if rows["embedding"].null_count == 0:
        similarity = linkage.cosine_matrix(ann.from_bytes(rows["embedding"].to_pylist()))
        return linkage.cut_component(similarity, settings.min_similarity, settings.linkage)
    agreement = linkage.agreement_matrix(rows["phash"].to_numpy())
    return linkage.cut_component(agreement, settings.min_agreement, settings.linkage)


def _whole_components(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Regroup rows sorted by component_id into one table a component."""
    held: list[pa.Table] = []
    for batch in batches:
        component = batch["component_id"].to_numpy()
        starts = [0, *(np.flatnonzero(np.diff(component)) + 1).tolist(), len(component)]
        for start, end in itertools.pairwise(starts):
            part = pa.Table.from_batches([batch.slice(start, end - start)])
            if held and held[0]["component_id"][0] != part["component_id"][0]:
                yield pa.concat_tables(held)
                held = []
            held.append(part)
    if held:
        yield pa.concat_tables(held)


def _guard_against_a_giant(kept: DataFrame, n_images: int, max_share: float) -> None:
    largest = kept.orderBy(F.desc("cluster_size")).select("cluster_size", "uri").first()
    if n_images >= _MIN_IMAGES_FOR_GUARD and largest is not None and largest["cluster_size"] > max_share * n_images:
        raise GuardError(
            f"one cluster would hold {largest['cluster_size']:,} of {n_images:,} images, more than "
            f"cluster.max_cluster_share ({max_share:g}); one of them is {largest['uri']}. "
            "If that is right, allow it with --set cluster.max_cluster_share=1"
        )

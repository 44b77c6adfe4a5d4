"""Cluster: pairs to groups of the same picture, a keeper for each, and the reason for every member.

Reads: images, features, pairs, densities
Writes: clusters, evidence
Kernels: ann, components, density, grouping, linkage, probability
Scale: a few shuffles of 16-byte edges; embeddings of clustered representatives once, by component; linkage needs
n squared memory within one component, at most cluster.max_component_images.
"""

from __future__ import annotations

import logging

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dedup_spark.config import ClusterSettings, Config
from dedup_spark.errors import GuardError
from dedup_spark.runs import Run
from dedup_spark.stages.components import bounded_components
from dedup_spark.stages.cut import cut_components, cut_settings, cut_weighed
from dedup_spark.stages.keepers import choose_keepers, keeper_pairs, require_keeper_order, with_reasons
from dedup_spark.stages.representatives import representatives, with_representative
from dedup_spark.stages.scoring import score_pairs
from dedup_spark.stages.verify import edges_of, leader_pairs, prior_of, weigh, weigh_settings
from dedup_spark.tables import CLUSTERS, DENSITIES, EVIDENCE, FEATURES, IMAGES, PAIRS

log = logging.getLogger(__name__)

_MIN_IMAGES_FOR_GUARD = 1000  # in a small folder one large group is no alarm


def run(spark: SparkSession, config: Config, run: Run) -> None:
    """Components, then linkage inside each, then members, keepers, relations and reasons."""
    tables, settings = run.tables, config.cluster
    images, features = tables.read(IMAGES), tables.read(FEATURES)
    require_keeper_order(images, features, settings)
    unique = tables.stage("unique", representatives(features).select("image_id", "phash", "embedding"))
    labels = tables.stage("labels", group_representatives(run, config, unique))

    members = tables.stage("members", expand(labels, features))
    kept = tables.stage("kept", choose_keepers(members, images, features, settings))
    _guard_against_a_giant(kept, images.count(), settings.max_cluster_share)
    scores = score_pairs(keeper_pairs(kept), unique)
    tables.overwrite(CLUSTERS, with_reasons(kept, scores, config))
    tables.drop_staged()
    clusters = tables.read(CLUSTERS)
    run.count(clusters=clusters.where("is_keeper").count(), members=clusters.count())


def group_representatives(run: Run, config: Config, unique: DataFrame) -> DataFrame:
    """(image_id, cluster_label) of representatives: by evidence where the model has a calibration, else by cosine."""
    tables, settings = run.tables, config.cluster
    prior = prior_of(model_of(tables.read(FEATURES)), settings.prior)
    if prior is None:
        edges = tables.stage("edges", near_edges(tables.read(PAIRS), settings))
        components = bounded_components(edges, tables, settings.max_component_images, settings.max_driver_pairs)
        return cut_components(components, unique, cut_settings(config))
    weighing = weigh_settings(config, prior)
    densities = tables.read(DENSITIES)
    thumbnails = representatives(tables.read(FEATURES)).select("image_id", "thumbnail")
    pairs = tables.read(PAIRS).where(~F.col("method").isin("same_bytes", "same_pixels"))
    evidence = tables.stage("evidence", weigh(pairs, densities, thumbnails, tables, weighing))
    edges = tables.stage("edges", edges_of(evidence, settings))
    components = bounded_components(edges, tables, settings.max_component_images, settings.max_driver_pairs)
    cutting = cut_settings(config)
    first = tables.stage("first_cut", cut_weighed(components, evidence, cutting))
    beside_leaders = score_pairs(leaders := tables.stage("leaders", leader_pairs(first, evidence)), unique)
    missing = beside_leaders.join(leaders, ["image_id_a", "image_id_b"])
    more = tables.stage("more_evidence", weigh(missing, densities, thumbnails, tables, weighing))
    tables.overwrite(EVIDENCE, evidence.unionByName(more))
    _count_evidence(run)
    groups = first.withColumnRenamed("cluster_label", "component_id")
    return cut_weighed(groups, tables.read(EVIDENCE), cutting, settled=True)


def _count_evidence(run: Run) -> None:
    by = {r["decided_by"]: r["count"] for r in run.tables.read(EVIDENCE).groupBy("decided_by").count().collect()}
    run.count(**{f"decided_by_{k}": n for k, n in by.items() if k != "undecided"}, undecided=by.get("undecided", 0))


def model_of(features: DataFrame) -> str | None:
    """The model of the embeddings; extract makes sure that there is one only."""
    row = features.where("model_id IS NOT NULL").select("model_id").first()
    return row["model_id"] if row else None


def near_edges(pairs: DataFrame, settings: ClusterSettings) -> DataFrame:
    """Edges (a, b, similarity) between representatives that are near enough to share a cluster.

    Linkage joins two groups only where some pair reaches the cut, so weaker pairs cannot matter. Without
    embeddings the share of equal pHash bits stands for the similarity.
    """
    near = pairs.where(~F.col("method").isin("same_bytes", "same_pixels"))
    similarity = F.coalesce("similarity", 1 - F.col("hamming_bits") / 64)
    edges = near.select(F.col("image_id_a").alias("a"), F.col("image_id_b").alias("b"), similarity.alias("similarity"))
    return edges.where(F.col("similarity") >= settings.min_similarity)


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


def _guard_against_a_giant(kept: DataFrame, n_images: int, max_share: float) -> None:
    largest = kept.orderBy(F.desc("cluster_size")).select("cluster_size", "uri").first()
    if n_images >= _MIN_IMAGES_FOR_GUARD and largest is not None and largest["cluster_size"] > max_share * n_images:
        raise GuardError(
            f"one cluster would hold {largest['cluster_size']:,} of {n_images:,} images, more than "
            f"cluster.max_cluster_share ({max_share:g}); one of them is {largest['uri']}. "
            "If that is right, allow it with --set cluster.max_cluster_share=1"
        )

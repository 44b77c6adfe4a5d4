"""Cluster: pairs to groups of the same picture, a keeper for each, and the reason for every member.

Reads: images, features, pairs, densities, clusters
Writes: evidence, clusters, cluster_history, guarded
Kernels: ann, components, density, grouping, keeping, linkage, probability
Scale: a few shuffles of 16-byte edges; embeddings of clustered representatives twice, by component and by group;
linkage and keepers need n squared memory within one component, at most cluster.max_component_images.
"""

from __future__ import annotations

import functools
from datetime import UTC, datetime

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dedup_spark.config import ClusterSettings, Config
from dedup_spark.errors import GuardError
from dedup_spark.runs import Run
from dedup_spark.stages.bounds import (
    bounds_of,
    bridges,
    group_around_keepers,
    require_bound,
    weigh_likeness,
    with_keepers,
)
from dedup_spark.stages.by_evidence import Groups, group_by_evidence, model_of, weigh_candidates
from dedup_spark.stages.components import bounded_components
from dedup_spark.stages.cut import cut_components, cut_settings
from dedup_spark.stages.guards import FACTS, guarded_images, trusted_pairs
from dedup_spark.stages.history import changes, name_clusters, require_unique_ids
from dedup_spark.stages.policy import rank_members, require_keeper_order
from dedup_spark.stages.reasons import keeper_pairs, with_reasons
from dedup_spark.stages.representatives import representatives, with_representative
from dedup_spark.stages.verify import prior_of
from dedup_spark.tables import CLUSTER_HISTORY, CLUSTERS, DENSITIES, EVIDENCE, FEATURES, GUARDED, IMAGES, PAIRS

_MIN_IMAGES_FOR_GUARD = 1000  # in a small folder one large group is no alarm


def run(spark: SparkSession, config: Config, run: Run) -> None:
    """Components, then linkage inside each, then keepers within the bound, ids, relations and reasons."""
    tables, settings = run.tables, config.cluster
    images, features = tables.read(IMAGES), tables.read(FEATURES)
    require_keeper_order(images, features, settings)
    unique = tables.stage("unique", representatives(features).select("image_id", "phash", "embedding", *FACTS))
    near = near_pairs(tables.read(PAIRS), settings)
    guarded = tables.stage("guarded", guarded_images(unique, near, settings))
    prior = prior_of(model_of(features))
    if prior is None:
        groups = group_by_likeness(run, config, unique, trusted_pairs(near, guarded, config))
    else:
        weighed = weigh_candidates(tables.read(PAIRS), tables.read(DENSITIES), tables, config, prior)
        tables.overwrite(EVIDENCE, weighed)
        groups = group_by_evidence(run, config, unique, guarded, prior)

    members = tables.stage("members", expand(groups.labels, features))
    ranked = tables.stage("ranked", rank_members(members, images, features, settings))
    around = group_around_keepers(ranked, groups.near, groups.weigh, settings.max_component_images)
    grouped = tables.stage("grouped", around)
    kept = tables.stage("kept", with_keepers(ranked, grouped))
    _guard_against_a_giant(kept, images.count(), settings.max_cluster_share)

    previous = tables.read(CLUSTERS).select("image_id", "cluster_id")
    names = name_clusters(kept.select("image_id", "keeper_image_id"), previous, tables)
    named = with_bridges(kept.join(names, "keeper_image_id"), bridges(groups.edges, grouped))
    clusters = tables.stage("clusters", with_reasons(named, groups.weigh(keeper_pairs(kept)), groups.bounds))
    require_bound(clusters)
    require_unique_ids(clusters)
    _write(run, clusters, previous, guarded)
    tables.drop_staged()


def _write(run: Run, clusters: DataFrame, previous: DataFrame, guarded: DataFrame) -> None:
    """History first, clusters last: a step killed in between finds the old clusters and does the same again."""
    tables = run.tables
    version = tables.version(CLUSTERS)
    history = changes(clusters.select("image_id", "cluster_id"), previous, version, run.run_id, datetime.now(UTC))
    events = tables.stage("events", history)
    never_happened = events.sparkSession.createDataFrame([(version,)], "clusters_version bigint")
    tables.delete(CLUSTER_HISTORY, never_happened)
    tables.append(CLUSTER_HISTORY, events)
    tables.overwrite(GUARDED, guarded)
    tables.overwrite(CLUSTERS, clusters)
    run.count(
        clusters=clusters.where("is_keeper").count(),
        members=clusters.count(),
        bridges=clusters.where("is_bridge").count(),
        **{f"guarded_{row['guard']}": row["count"] for row in guarded.groupBy("guard").count().collect()},
        **{f"clusters_{row['event']}": row["count"] for row in events.groupBy("event").count().collect()},
    )


def group_by_likeness(run: Run, config: Config, unique: DataFrame, trusted: DataFrame) -> Groups:
    """Components and linkage by cosine, or without embeddings by pHash: no evidence beyond these."""
    tables, settings, bounds = run.tables, config.cluster, bounds_of(config)
    edges = tables.stage("edges", to_edges(trusted))
    components = bounded_components(edges, tables, settings.max_component_images, settings.max_driver_pairs)
    labels = tables.stage("labels", cut_components(components, unique, cut_settings(config)))
    weigh = functools.partial(weigh_likeness, unique=unique, bounds=bounds)
    return Groups(labels, edges, edges.select("a", "b"), weigh, bounds)


def near_pairs(pairs: DataFrame, settings: ClusterSettings) -> DataFrame:
    """Pairs of representatives that are near enough to share a cluster.

    Linkage joins two groups only where some pair reaches the cut, so weaker pairs cannot matter. Without
    embeddings the share of equal pHash bits stands for the similarity.
    """
    likeness = F.coalesce("similarity", 1 - F.col("hamming_bits") / 64)
    return pairs.where(~F.col("method").isin("same_bytes", "same_pixels") & (likeness >= settings.min_similarity))


def to_edges(pairs: DataFrame) -> DataFrame:
    """Edges (a, b, similarity) between representatives."""
    similarity = F.coalesce("similarity", 1 - F.col("hamming_bits") / 64)
    return pairs.select(F.col("image_id_a").alias("a"), F.col("image_id_b").alias("b"), similarity.alias("similarity"))


def expand(labels: DataFrame, features: DataFrame) -> DataFrame:
    """Members of groups of two or more: image_id, hashes, representative_id, label.

    A representative without near neighbours still leads its identical copies.
    """
    everyone = with_representative(features).join(
        labels.withColumnRenamed("image_id", "representative_id"), "representative_id", "left"
    )
    named = everyone.withColumn("label", F.coalesce("cluster_label", "representative_id")).drop("cluster_label")
    groups = named.groupBy("label").agg(F.count("*").alias("n")).where("n > 1").select("label")
    return named.join(groups, "label")


def with_bridges(kept: DataFrame, bridging: DataFrame) -> DataFrame:
    """Add is_bridge to members."""
    marked = bridging.withColumn("is_bridge", F.lit(True))
    return kept.join(marked, "representative_id", "left").fillna(False, ["is_bridge"])


def _guard_against_a_giant(kept: DataFrame, n_images: int, max_share: float) -> None:
    largest = kept.orderBy(F.desc("cluster_size")).select("cluster_size", "uri").first()
    if n_images >= _MIN_IMAGES_FOR_GUARD and largest is not None and largest["cluster_size"] > max_share * n_images:
        raise GuardError(
            f"one cluster would hold {largest['cluster_size']:,} of {n_images:,} images, more than "
            f"cluster.max_cluster_share ({max_share:g}); one of them is {largest['uri']}. "
            "If that is right, allow it with --set cluster.max_cluster_share=1"
        )

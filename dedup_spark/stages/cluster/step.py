"""Cluster: pairs to groups of the same picture, a keeper for each, and the reason for every member.

Reads: images, features, pairs, densities, clusters
Writes: clusters, cluster_history, components, guarded, evidence
Kernels: clusters, comparing, features, vectors
Scale: four shuffles of the rows of `pairs`, and a few of those inside components; two scans of the thumbnails of all
images, and one that leaves those of images in components beside; thumbnails (10 KB) with their keypoints (60 KB) of the
pairs in doubt once per part of 1,000 pairs, in a crowd of strangers nearly once per pair; thumbnails once more of each
member of other pixels than its keeper and of those that may stand in for another; all of that again in each run in
which anything changed; linkage and keepers need n squared memory within one component, at most
cluster.max_component_images.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from dedup_spark.config import Config
from dedup_spark.errors import GuardError
from dedup_spark.spark.background import background
from dedup_spark.stages.calibration import require_calibration
from dedup_spark.stages.cluster.history import changes, name_clusters, require_unique_ids
from dedup_spark.stages.cluster.keeper_order import prefixes_in_vain, rank_members, require_keeper_order
from dedup_spark.stages.cluster.keeper_reason import with_why_kept
from dedup_spark.stages.cluster.keepers import (
    bridges,
    group_around_keepers,
    pairs_to_measure,
    require_bound,
    with_keepers,
)
from dedup_spark.stages.cluster.pairs_to_groups import Groups, count_evidence, group_pairs, model_of
from dedup_spark.stages.cluster.reasons import keeper_pairs, with_direct, with_reasons
from dedup_spark.stages.cluster.relations import related_to_keeper
from dedup_spark.stages.cluster.removal import is_outdated, of_linked_files
from dedup_spark.stages.cluster.stand_ins import stand_ins
from dedup_spark.stages.cluster.tiers import with_scores, with_tier_to_keeper, with_tiers
from dedup_spark.stages.representatives import images_of, representatives_with
from dedup_spark.store.observed import stage_with
from dedup_spark.store.runs import Run
from dedup_spark.store.schema import CLUSTER_HISTORY, CLUSTERS, COMPONENTS, EVIDENCE, FEATURES, GUARDED, IMAGES
from dedup_spark.vocabulary import ComparedFor

log = logging.getLogger(__name__)

_MIN_IMAGES_FOR_GUARD = 1000  # in a small folder one large group is no alarm


def run(spark: SparkSession, config: Config, run: Run) -> None:
    """Components, then linkage inside each, then keepers within the bound, ids, relations, tiers and reasons."""
    tables, settings = run.tables, config.cluster
    images, features = tables.read(IMAGES), tables.read(FEATURES)
    require_calibration(run, model_of(features))
    require_keeper_order(images, features, settings)
    for prefix in prefixes_in_vain(images, settings):
        log.warning(
            "cluster: no address begins with the prefix %r, so it protects nothing: compare it, letter by letter, with "
            "the column uri of images; a folder below the lake has no slash in front",
            prefix,
        )
    groups, distances = group_pairs(run, config)

    members = tables.stage("grouped_images", expand(groups.labels, features))
    ranked = tables.stage("ranked", rank_members(members, images, features, settings))
    missing = pairs_to_measure(ranked, distances.near, settings.max_component_images)
    distances = distances.measure(missing, ComparedFor.KEEPERS)
    around = group_around_keepers(ranked, distances.near, settings.max_component_images)
    grouped = tables.stage("grouped", around)
    kept = tables.stage("kept", with_keepers(ranked, grouped))
    _refuse_a_giant_cluster(kept, images.count(), settings.max_cluster_share)

    previous = tables.rows_now(CLUSTERS).select("image_id", "cluster_id")
    names = name_clusters(kept.select("image_id", "keeper_image_id"), previous, tables)
    named = with_bridges(kept.join(names, "keeper_image_id"), bridges(groups.edges, grouped))
    measured = tables.stage("measured", with_direct(distances.between(keeper_pairs(kept)), groups.edges))
    related = related_to_keeper(kept, measured, groups.pictures)
    named = with_why_kept(named, settings.keeper_order)
    scored = with_scores(named, measured, related, distances.unit, distances.bound)
    placed, seen = stage_with(
        tables, "placed", with_tier_to_keeper(scored, settings.removable_up_to), n_staying=F.count_if("is_staying")
    )
    standing = stand_ins(placed, seen["n_staying"], distances, groups.edges, groups.pictures, tables)
    owned = with_tiers(placed, standing, ranked, settings.removable_up_to, distances.unit, distances.bound)
    tiered = tables.stage("tiered", owned)
    clusters = tables.stage("clusters", with_reasons(tiered, of_linked_files(tiered)))
    require_bound(clusters)
    require_unique_ids(clusters)
    _write(run, clusters, previous, groups, distances.evidence)
    run.count(**count_evidence(run), **_count_outdated(kept))
    tables.drop_staged()


def _write(run: Run, clusters: DataFrame, previous: DataFrame, groups: Groups, evidence: DataFrame) -> None:
    """History first, clusters last: a step that is killed in between finds the old clusters when it runs again."""
    tables = run.tables
    version = tables.version(CLUSTERS)
    history = changes(clusters.select("image_id", "cluster_id"), previous, version, run.run_id, datetime.now(UTC))
    events = tables.stage("events", history)
    with background(tables.spark) as start:
        start(lambda: tables.replace(CLUSTER_HISTORY, events, clusters_version=version))
        start(lambda: tables.overwrite(EVIDENCE, evidence))
        start(lambda: tables.overwrite(COMPONENTS, groups.components))
        start(lambda: tables.overwrite(GUARDED, groups.guarded))
    tables.overwrite(CLUSTERS, clusters)
    totals = clusters.agg(
        F.count_if("is_keeper").alias("clusters"),
        F.count("*").alias("members"),
        F.count_if("is_bridge").alias("bridges"),
    ).first()
    assert totals is not None
    run.count(
        **totals.asDict(),
        **{f"guarded_{row['guard']}": row["count"] for row in groups.guarded.groupBy("guard").count().collect()},
        **{f"clusters_{row['event']}": row["count"] for row in events.groupBy("event").count().collect()},
    )


def expand(labels: DataFrame, features: DataFrame) -> DataFrame:
    """Members of groups of two or more: image_id, hashes, representative_id, label.

    A representative without near neighbours still makes a group with its identical copies. Most images are alone: which
    groups there are is found by one narrow row per picture, and images without a group are not shuffled by it.
    """
    pictures = representatives_with(features).join(labels, "image_id", "left")
    not_alone = pictures.where("cluster_label IS NOT NULL OR n_equal > 1")
    named = not_alone.withColumn("label", F.coalesce("cluster_label", "image_id"))
    sized = named.withColumn("n", F.sum("n_equal").over(Window.partitionBy("label"))).where("n > 1")
    return images_of(features, sized.select("pixel_hash", F.col("image_id").alias("representative_id"), "label"))


def with_bridges(kept: DataFrame, bridging: DataFrame) -> DataFrame:
    """Add is_bridge to members."""
    marked = bridging.withColumn("is_bridge", F.lit(True))
    return kept.join(marked, "representative_id", "left").fillna(False, ["is_bridge"])


def _count_outdated(kept: DataFrame) -> dict[str, int]:
    """Members that were read by a version whose facts cannot be relied on; logged, where there are any."""
    n_outdated = kept.where(is_outdated("signature_version")).count()
    if n_outdated:
        log.warning(
            "cluster: %s members were read by an older version of dedup-spark, whose facts do not allow removal: they "
            "stay, and so do the copies whose keepers they are, until `dedup-spark run` has read them again",
            f"{n_outdated:,}",
        )
    return {"outdated": n_outdated} if n_outdated else {}


def _refuse_a_giant_cluster(kept: DataFrame, n_images: int, max_share: float) -> None:
    largest = kept.orderBy(F.desc("cluster_size")).select("cluster_size", "uri").first()
    if n_images >= _MIN_IMAGES_FOR_GUARD and largest is not None and largest["cluster_size"] > max_share * n_images:
        raise GuardError(
            f"one cluster would hold {largest['cluster_size']:,} of {n_images:,} images, more than "
            f"cluster.max_cluster_share ({max_share:g}); one of them is {largest['uri']}. "
            "If that is right, allow it with --set cluster.max_cluster_share=1"
        )

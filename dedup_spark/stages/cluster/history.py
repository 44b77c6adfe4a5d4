"""Cluster ids that survive re-runs, and what happened to each cluster. Part of the step cluster.

A cluster keeps the id of the previous cluster with which it shares most members. New ids are image ids of members, so
that they need no counter. An id of a previous cluster is not given again while the rows of that cluster exist.
"""

from __future__ import annotations

from datetime import datetime

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from dedup_spark.errors import TableError
from dedup_spark.store.tables import Tables
from dedup_spark.vocabulary import ClusterEvent


def name_clusters(groups: DataFrame, previous: DataFrame, tables: Tables) -> DataFrame:
    """(keeper_image_id, cluster_id) for groups (image_id, keeper_image_id), given previous (image_id, cluster_id)."""
    smallest = groups.groupBy("keeper_image_id").agg(F.min("image_id").alias("smallest"))
    shared = groups.join(previous, "image_id").groupBy("keeper_image_id", "cluster_id").agg(F.count("*").alias("n"))
    kept = _kept_ids(tables.stage("shared-0", shared.join(smallest, "keeper_image_id")), tables)
    fresh = groups.join(kept, "keeper_image_id", "left_anti")
    taken = previous.select(F.col("cluster_id").alias("image_id")).distinct().withColumn("taken", F.lit(True))
    free = F.min(F.when(F.col("taken").isNull(), F.col("image_id")))
    made_up = F.xxhash64(F.lit("cluster"), F.min("image_id"))  # the ids of all members are those of other clusters
    new = fresh.join(taken, "image_id", "left").groupBy("keeper_image_id")
    return kept.unionByName(new.agg(F.coalesce(free, made_up).alias("cluster_id")))


def _kept_ids(shared: DataFrame, tables: Tables) -> DataFrame:
    """(keeper_image_id, cluster_id): each group and each previous id at most once, the largest shares first.

    Each round matches the groups and ids that choose each other; ties go to the smaller id. Every round matches at
    least the largest share left; as a rule one or two rounds are enough.
    """
    matched = shared.select("keeper_image_id", "cluster_id").where("false")
    number = 0
    while not shared.isEmpty():
        number += 1
        by_group = Window.partitionBy("keeper_image_id").orderBy(F.desc("n"), "cluster_id")
        by_id = Window.partitionBy("cluster_id").orderBy(F.desc("n"), "smallest")
        ranked = shared.withColumns({"g": F.row_number().over(by_group), "i": F.row_number().over(by_id)})
        pairs = ranked.where("g = 1 AND i = 1").select("keeper_image_id", "cluster_id")
        found = tables.stage(f"kept-ids-{number}", pairs)
        matched = matched.unionByName(found)
        rest = shared.join(found.select("keeper_image_id"), "keeper_image_id", "left_anti")
        rest = rest.join(found.select("cluster_id"), "cluster_id", "left_anti").select(shared.columns)
        shared = tables.stage(f"shared-{number}", rest)
    return matched


def require_unique_ids(clusters: DataFrame) -> None:
    """Raise TableError when two clusters have one id, or one cluster two."""
    keepers = clusters.where("is_keeper").groupBy("cluster_id").count()
    ids = clusters.groupBy("keeper_image_id").agg(F.countDistinct("cluster_id").alias("count"))
    by_id = keepers.select(F.format_string("cluster %s has %s keepers", "cluster_id", "count").alias("wrong"), "count")
    by_keeper = ids.select(F.format_string("keeper %s has %s clusters", "keeper_image_id", "count"), "count")
    wrong = by_id.union(by_keeper).where("count <> 1").first()
    if wrong is not None:
        raise TableError(f"{wrong['wrong']}: a table changed while it was read; run again")


def changes(clusters: DataFrame, previous: DataFrame, version: int, run_id: str, at: datetime) -> DataFrame:
    """The rows of `cluster_history` between two states of `clusters`; what is unchanged has none.

    Args:
        clusters: (image_id, cluster_id) now.
        previous: (image_id, cluster_id) before.
        version: Of the table `clusters` before.
    """
    now = clusters.groupBy("cluster_id").agg(F.count("*").alias("cluster_size"))
    before = previous.groupBy("cluster_id").agg(F.count("*").alias("previous_size"))
    old = previous.withColumnRenamed("cluster_id", "previous_id")
    shared = clusters.join(old, "image_id").groupBy("cluster_id", "previous_id").agg(F.count("*").alias("n_shared"))
    parts = F.count("*").over(Window.partitionBy("previous_id"))
    origin = shared.withColumn("n_parts", parts).groupBy("cluster_id").agg(
        F.sort_array(F.collect_list("previous_id")).alias("previous_cluster_ids"),
        F.sum("n_shared").alias("n_shared"),
        F.max("n_parts").alias("n_parts"),
    )  # fmt: skip
    compared = now.join(before, "cluster_id", "full").join(origin, "cluster_id", "left")
    events = compared.withColumn("event", _event()).where("event IS NOT NULL")
    itself = F.array("cluster_id")
    return events.select(
        F.lit(version).cast("bigint").alias("clusters_version"),
        "cluster_id",
        "event",
        F.when(F.col("event") == ClusterEvent.REMOVED, itself)
        .otherwise(F.coalesce("previous_cluster_ids", F.array().cast("array<bigint>")))
        .alias("previous_cluster_ids"),
        F.coalesce("cluster_size", F.lit(0)).cast("bigint").alias("cluster_size"),
        "previous_size",
        F.lit(run_id).alias("run_id"),
        F.lit(at).cast("timestamp").alias("at"),
    )


def _event() -> Column:
    """What happened to a cluster; null: nothing."""
    all_kept = F.col("n_shared") == F.col("previous_size")
    none_new = F.col("n_shared") == F.col("cluster_size")
    return (
        F.when(F.col("cluster_size").isNull(), ClusterEvent.REMOVED)
        .when(F.col("n_shared").isNull(), ClusterEvent.CREATED)
        .when(F.size("previous_cluster_ids") > 1, ClusterEvent.MERGED)
        .when(F.col("n_parts") > 1, ClusterEvent.SPLIT)
        .when(all_kept & none_new, F.lit(None))
        .when(all_kept, ClusterEvent.GROWN)
        .when(none_new, ClusterEvent.SHRUNK)
        .otherwise(ClusterEvent.CHANGED)
    )

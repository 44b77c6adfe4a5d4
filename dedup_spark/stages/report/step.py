"""Report: the views for SQL, a script that opens them anywhere, and an HTML page.

Reads: images, features, clusters, guarded, runs
Writes: views, report/
Kernels: none
Scale: three counts, two window ranks and one sum by folder, as shuffles of narrow rows; three joins of clusters with
images, for the present facts; of features 16 bytes per image, and the row groups (16 MB) around the images on the page.
The driver holds the page: at most report.max_clusters_shown times 12 thumbnails (10 kB each).

Files: `<root>/report/views.sql`, which opens tables and views in any Spark, and `<root>/report/index.html`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

import dedup_spark
from dedup_spark.config import Config
from dedup_spark.spark.background import background
from dedup_spark.spark.local_relation import local_relation
from dedup_spark.stages.few_images import rows_of_few
from dedup_spark.stages.report.page import render_page
from dedup_spark.stages.report.summary import collect_summary
from dedup_spark.stages.report.values import PrefixTotal, RejectExample, Report, ShownCluster, ShownMember
from dedup_spark.store import files
from dedup_spark.store.runs import Run
from dedup_spark.store.schema import CLUSTERS, FEATURES
from dedup_spark.store.view_definitions import DUPLICATES, QUARANTINE, RECLAIMABLE_BY_PREFIX
from dedup_spark.store.views import ViewSettings, create_views, read_view, views_script

_MAX_MEMBERS_SHOWN = 12  # two rows on a screen; the rest is in the table
_MAX_PREFIXES_SHOWN = 50
_MAX_EXAMPLES_PER_REASON = 3
_OF_ANOTHER = "copy_of_another_member"
_MEMBER_COLUMNS = ("uri", "member", "is_keeper", "relation", "similarity", "hamming_bits", "size_bytes")
_PICTURE_COLUMNS = ("width_px", "height_px", "thumbnail")

_Shown = dict[str, Any]
"""A member on the page, by the names of its columns."""


def run(spark: SparkSession, config: Config, run: Run) -> None:
    """Create the views, write the script that opens them, collect the figures, write the page."""
    tables, settings = run.tables, ViewSettings.of(config)
    create_views(tables, settings)
    clusters, removable = tables.read(CLUSTERS), read_view(tables, DUPLICATES, settings).where("removable")
    largest = largest_clusters(clusters, removable, config.report.max_clusters_shown)
    with background(spark) as start:
        summary = start(lambda: collect_summary(tables, settings))
        examples = start(lambda: _reject_examples(read_view(tables, QUARANTINE)))
        prefixes = start(lambda: _prefixes(read_view(tables, RECLAIMABLE_BY_PREFIX, settings)))
        shown_clusters = _clusters(shown_members(clusters, tables.read(FEATURES), largest))
    report = Report(
        lake=run.lake,
        tables_root=tables.database or tables.root,
        run_id=run.run_id,
        version=dedup_spark.__version__,
        summary=summary.result(),
        reject_examples=examples.result(),
        prefixes=prefixes.result(),
        clusters=shown_clusters,
        settings={f"{s}.{key}": value for s, keys in asdict(config).items() for key, value in keys.items()},
    )
    _write_text(f"{tables.root}/report/views.sql", views_script(tables, settings))
    _write_text(f"{tables.root}/report/index.html", render_page(report))
    run.count(
        clusters=report.summary.n_clusters,
        clusters_shown=len(report.clusters),
        removable=report.summary.n_removable,
        removable_bytes=report.summary.removable_bytes,
    )


def largest_clusters(clusters: DataFrame, removable: DataFrame, n: int) -> DataFrame:
    """cluster_id and removable_bytes of the `n` largest clusters; ties by bytes to free, then by cluster_id.

    `removable`: cluster_id and freed_bytes of the members that may go now.
    """
    sizes = clusters.groupBy("cluster_id").agg(F.count("*").alias("n_images"))
    freed = removable.groupBy("cluster_id").agg(F.sum("freed_bytes").alias("removable_bytes"))
    sums = sizes.join(freed, "cluster_id", "left").fillna(0, ["removable_bytes"])
    return sums.orderBy(F.desc("n_images"), F.desc("removable_bytes"), "cluster_id").drop("n_images").limit(n)


def shown_members(clusters: DataFrame, features: DataFrame, largest: DataFrame) -> list[_Shown]:
    """Members of `largest_clusters` with thumbnails: rank 1 is the keeper, then the least similar, at most 12 each.

    The least similar come first because a mistake would be among them; a cluster may hold a million identical copies.
    """
    order = [F.desc("is_keeper"), F.asc_nulls_last("similarity"), F.desc("hamming_bits"), F.asc("image_id")]
    rank = F.row_number().over(Window.partitionBy("cluster_id").orderBy(order))
    of_largest = _told_beside_the_keeper(clusters.join(F.broadcast(largest), "cluster_id"))
    ranked = of_largest.withColumn("rank", rank).where(F.col("rank") <= _MAX_MEMBERS_SHOWN)
    columns = ("image_id", "cluster_id", "cluster_size", "removable_bytes", "rank", *_MEMBER_COLUMNS)
    members = ranked.select(*columns).collect()
    ids = local_relation(features.sparkSession, [(row["image_id"],) for row in members], "image_id bigint")
    rows = rows_of_few(features.select("image_id", "reading_key", *_PICTURE_COLUMNS), ids)
    pictures = {row["image_id"]: row.asDict() for row in rows.collect()}
    return [row.asDict() | pictures[row["image_id"]] for row in members if row["image_id"] in pictures]


def _told_beside_the_keeper(members: DataFrame) -> DataFrame:
    """Without relation and scores where these are to another keeper than that of the cluster, which is shown beside."""
    of_cluster = F.max(F.when(F.col("is_keeper"), F.col("image_id"))).over(Window.partitionBy("cluster_id"))
    is_told = F.col("is_keeper") | F.coalesce(F.col("keeper_image_id") == of_cluster, F.lit(True))
    own = {"relation": F.lit(_OF_ANOTHER), "similarity": F.lit(None), "hamming_bits": F.lit(None)}
    return members.withColumns({name: F.when(is_told, F.col(name)).otherwise(value) for name, value in own.items()})


def _clusters(members: Iterable[_Shown]) -> tuple[ShownCluster, ...]:
    rows = sorted(members, key=lambda r: (-r["cluster_size"], -r["removable_bytes"], r["cluster_id"], r["rank"]))
    groups = [list(group) for _, group in itertools.groupby(rows, key=lambda r: r["cluster_id"])]
    return tuple(
        ShownCluster(
            group[0]["cluster_id"],
            group[0]["cluster_size"],
            group[0]["removable_bytes"],
            tuple(ShownMember(**{c: r[c] for c in _MEMBER_COLUMNS + _PICTURE_COLUMNS}) for r in group),
        )
        for group in groups
    )


def _reject_examples(quarantine: DataFrame) -> tuple[RejectExample, ...]:
    rank = F.row_number().over(Window.partitionBy("reject_reason").orderBy("image_id"))
    few = quarantine.withColumn("rank", rank).where(F.col("rank") <= _MAX_EXAMPLES_PER_REASON)
    rows = few.orderBy("reject_reason", "rank").collect()
    return tuple(RejectExample(r["reject_reason"], r["uri"], r["member"], r["reject_message"]) for r in rows)


def _prefixes(reclaimable: DataFrame) -> tuple[PrefixTotal, ...]:
    most = reclaimable.orderBy(F.desc("removable_bytes"), "lake", "prefix").limit(_MAX_PREFIXES_SHOWN)
    names = ("lake", "prefix", "n_removable", "removable_bytes", "n_images", "removable_share")
    return tuple(PrefixTotal(**{name: row[name] for name in names}) for row in most.collect())


def _write_text(uri: str, text: str) -> None:
    """Write UTF-8; a character that is no Unicode (in a path from the command line) becomes `?`."""
    files.write_atomically(uri, text.encode("utf-8", "replace"))

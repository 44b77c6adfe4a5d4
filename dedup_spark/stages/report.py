"""Report: views for SQL, and one page for people.

Reads: images, features, clusters
Writes: none
Kernels: none
Scale: a few aggregates; only the report.max_clusters_shown largest clusters and the largest prefixes reach the driver.

The views are temporary without a catalog, so they are also written as a script, `report/views.sql`.
"""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from dedup_spark import storage
from dedup_spark.config import Config
from dedup_spark.report_page import Member, Page, Prefix, Reject, render_page
from dedup_spark.runs import Run
from dedup_spark.summary import collect_summary
from dedup_spark.tables import CLUSTERS, FEATURES, IMAGES, Tables
from dedup_spark.views import create_views, views_script

_MAX_PREFIXES, _EXAMPLES_PER_REASON, _MEMBERS_SHOWN = 20, 3, 12


def run(spark: SparkSession, config: Config, run: Run) -> None:
    """Create the views, write `report/views.sql` and `report/index.html`."""
    tables, settings = run.tables, config.report
    create_views(tables, settings.prefix_depth)
    page = Page(
        lake=run.lake,
        run_id=run.run_id,
        settings=config.to_json(),
        summary=collect_summary(tables),
        rejects=example_rejects(tables),
        prefixes=largest_prefixes(spark),
        members=largest_clusters(tables, settings.max_clusters_shown),
    )
    storage.write_atomically(f"{tables.root}/report/views.sql", views_script(tables, settings.prefix_depth).encode())
    storage.write_atomically(f"{tables.root}/report/index.html", render_page(page).encode())
    run.count(clusters_shown=len({m.cluster_id for m in page.members}))


def example_rejects(tables: Tables) -> list[Reject]:
    """A few examples of each reason."""
    rejected = tables.read(FEATURES).where("status = 'rejected'").select("image_id", "reject_reason", "reject_message")
    nth = F.row_number().over(Window.partitionBy("reject_reason").orderBy("image_id"))
    few = rejected.withColumn("nth", nth).where(F.col("nth") <= _EXAMPLES_PER_REASON)
    rows = few.join(tables.read(IMAGES).select("image_id", "uri"), "image_id").orderBy("reject_reason", "uri").collect()
    return [Reject(r["reject_reason"], r["reject_message"] or "", r["uri"]) for r in rows]


def largest_prefixes(spark: SparkSession) -> list[Prefix]:
    """Folders with the most removable bytes."""
    rows = spark.table("reclaimable_by_prefix").where("n_removable > 0").orderBy(F.desc("removable_bytes"), "prefix")
    return [
        Prefix(r["prefix"], r["n_images"], r["n_removable"], r["removable_bytes"])
        for r in rows.limit(_MAX_PREFIXES).collect()
    ]


def largest_clusters(tables: Tables, n_clusters: int) -> list[Member]:
    """Members of the clusters with the most removable bytes, keeper first, a dozen of each at most."""
    clusters = tables.read(CLUSTERS)
    top = _by_removable_bytes(clusters).limit(n_clusters)
    first = Window.partitionBy("cluster_id").orderBy(F.desc("is_keeper"), F.asc("similarity"), "image_id")
    members = clusters.join(top, "cluster_id").withColumn("nth", F.row_number().over(first))
    thumbnails = tables.read(FEATURES).select("image_id", "thumbnail", "width_px", "height_px", "format")
    rows = members.where(F.col("nth") <= _MEMBERS_SHOWN).join(thumbnails, "image_id")
    rows = rows.orderBy(F.desc("removable_bytes"), "cluster_id", "nth")
    return [
        Member(
            cluster_id=r["cluster_id"],
            cluster_size=r["cluster_size"],
            uri=r["uri"],
            is_keeper=r["is_keeper"],
            relation=r["relation"],
            similarity=r["similarity"],
            reason=r["reason"],
            size_bytes=r["size_bytes"],
            width_px=r["width_px"],
            height_px=r["height_px"],
            format=r["format"],
            thumbnail=bytes(r["thumbnail"]),
        )
        for r in rows.collect()
    ]


def _by_removable_bytes(clusters: DataFrame) -> DataFrame:
    freed = F.sum(F.when(~F.col("is_keeper"), F.col("size_bytes"))).alias("removable_bytes")
    return clusters.groupBy("cluster_id").agg(freed).orderBy(F.desc("removable_bytes"), "cluster_id")

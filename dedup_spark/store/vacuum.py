"""Deletes the files of a table that no version of the last hours names (VACUUM of Delta)."""

from __future__ import annotations

from pyspark.sql import SparkSession

from dedup_spark.spark.session import with_settings

_FOR_VACUUM = {
    "spark.databricks.delta.retentionDurationCheck.enabled": "false",
    "spark.databricks.delta.vacuum.parallelDelete.enabled": "true",
    "spark.databricks.delta.vacuum.logging.enabled": "false",
}
"""Delta takes a retention below a week only without its check, which guards readers of older versions; it deletes one
file after another, in a store some tens a second, unless it is told otherwise; and on some stores it commits twice to
say so, by which the next run would take the table for another one."""
_LISTING_TASKS = "spark.sql.sources.parallelPartitionDiscovery.parallelism"
"""VACUUM lists a folder by so many tasks, 10,000 by default: 40 s on two cores. Our tables are one folder each."""


def vacuum(spark: SparkSession, name: str, hours: float) -> None:
    """`name`: of the table, as SQL names it. Only under the lease: files of a commit under way are named by none."""
    settings = _FOR_VACUUM | {_LISTING_TASKS: str(spark.sparkContext.defaultParallelism)}
    with with_settings(spark, settings):
        spark.sql(f"VACUUM {name} RETAIN {hours:g} HOURS")

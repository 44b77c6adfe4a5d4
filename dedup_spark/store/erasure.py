"""Takes the past of a table away: rows that were deleted live on in older files, change data and the table's log.

Files that no version in use names are deleted at once (VACUUM without the usual week). Then the table is told to write
a checkpoint with its next commit, and all of the log before it is deleted: statistics of older commits hold ids of
rows that are gone. Time travel, and followers of the change data, begin anew there.

Each part may be killed and done again. What the table's own properties were is kept in a property of the table
meanwhile. Cost: a listing of the table's folder, and three small commits.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pyspark.sql import SparkSession

from dedup_spark.errors import TableError
from dedup_spark.spark.session import putting_back, setting_of
from dedup_spark.store import delta_log, delta_sql, files
from dedup_spark.store.reader import root_of
from dedup_spark.store.tables import Tables

log = logging.getLogger(__name__)

_FOR_VACUUM = {
    "spark.databricks.delta.retentionDurationCheck.enabled": "false",
    "spark.databricks.delta.vacuum.parallelDelete.enabled": "true",
}
"""Delta takes a retention below a week only without its check, which guards readers of older versions; and it deletes
one file after another, in a store some tens a second, unless it is told otherwise."""
_LISTING_TASKS = "spark.sql.sources.parallelPartitionDiscovery.parallelism"
"""VACUUM lists a folder by so many tasks, 10,000 by default: 40 s on two cores. Our tables are one folder each."""
_BEFORE = "dedup_spark.before_forget"
_FOR_NOW = {"delta.checkpointInterval": "1", "delta.deletedFileRetentionDuration": "interval 0 hours"}
_CLASSIC = {"delta.checkpointPolicy": "classic"}
_DELETION_VECTORS = "deletionVectors"


def erase_past(tables: Tables, name: str, *, in_use_seconds: float = 0) -> int:
    """Leave of the table nothing but its rows as they are now. Returns how many files of its log went.

    Args:
        name: Of the table, as SQL names it.
        in_use_seconds: Files that no version names stay where they are younger: of a table to which somebody without
            the lease may be appending.

    Raises:
        TableError: no checkpoint was written, or a catalog keeps the table's log.
    """
    tables.require_lease()
    detail = _detail(tables.spark, name)
    path = root_of(detail["location"])
    if delta_sql.newest_commit(path) is None:
        raise TableError(
            f"the log of {name} is kept by its catalog, which alone can shorten it: what was forgotten stays in its "
            "statistics until the catalog deletes them (delta.logRetentionDuration)"
        )
    if _DELETION_VECTORS in (detail["tableFeatures"] or ()):
        tables.spark.sql(f"REORG TABLE {name} APPLY (PURGE)")  # a row that is only marked as deleted is in its file
    with _set_for_vacuum(tables.spark):
        tables.spark.sql(f"VACUUM {name} RETAIN {in_use_seconds / 3600:g} HOURS")
    return _shorten_log(tables, name, path, detail["properties"])


def _shorten_log(tables: Tables, name: str, path: str, properties: Mapping[str, str]) -> int:
    """Write a checkpoint, delete what is before it, and give the table its own properties again."""
    spark, before = tables.spark, delta_sql.newest_commit(path)
    for_now = _FOR_NOW | (_CLASSIC if delta_log.has_sidecars(path) else {})
    old = json.loads(properties[_BEFORE]) if _BEFORE in properties else {k: properties.get(k) for k in for_now}
    _set(spark, name, for_now | {_BEFORE: json.dumps(old)})
    found = delta_log.newest_checkpoint(files.list_names(f"{path}/{delta_log.FOLDER}"))
    if found is None or before is None or found <= before:
        raise TableError(
            f"{name}: its checkpoint was not written, so that the log with what was forgotten stays: do it again with "
            "the same command"
        )
    tables.require_lease()
    n_files = delta_log.drop_before(path, found)
    if for_now.keys() & _CLASSIC.keys():
        delta_log.drop_sidecars(path)
    _set(spark, name, {key: value for key, value in old.items() if value is not None})
    lacking = ", ".join(delta_sql.text(key) for key in [_BEFORE, *(k for k, v in old.items() if v is None)])
    spark.sql(f"ALTER TABLE {name} UNSET TBLPROPERTIES IF EXISTS ({lacking})")
    return n_files


def _set(spark: SparkSession, name: str, properties: Mapping[str, str]) -> None:
    if properties:
        named = ", ".join(f"{delta_sql.text(key)} = {delta_sql.text(value)}" for key, value in properties.items())
        spark.sql(f"ALTER TABLE {name} SET TBLPROPERTIES ({named})")


def _detail(spark: SparkSession, name: str) -> dict[str, Any]:
    row = spark.sql(f"DESCRIBE DETAIL {name}").first()
    if row is None:
        raise TableError(f"{name}: Delta tells nothing of this table")
    return {"tableFeatures": None} | row.asDict()


@contextmanager
def _set_for_vacuum(spark: SparkSession) -> Iterator[None]:
    settings = _FOR_VACUUM | {_LISTING_TASKS: str(spark.sparkContext.defaultParallelism)}
    before = {key: setting_of(spark, key) for key in settings}
    for key, value in settings.items():
        spark.conf.set(key, value)

    def put_back() -> None:
        for key, value in before.items():
            if value is None:
                spark.conf.unset(key)
            else:
                spark.conf.set(key, value)

    with putting_back(put_back):
        yield

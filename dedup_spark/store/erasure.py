"""Takes the past of a table away: rows that were deleted live on in older files, change data and the table's log.

First the table gets properties for the time, a change of its metadata, with which every commit fails that was begun
before. Then files that the newest version does not name are deleted at once (VACUUM without the usual week). Then the
table is told to write a checkpoint with its next commit, and all of the log before it is deleted: statistics of older
commits hold ids of rows that are gone. Time travel, and followers of the change data, begin anew there.

Each part may be killed and done again. What the table's own properties were is kept in a property of the table
meanwhile, and a file below `_forgotten` says that there may be such tables: whoever next opens the tables to write
gives them back first (`end_killed`), so that no VACUUM of a person takes files which readers need. Cost: two listings
of the table's folder, and four small commits.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

from pyspark.sql import SparkSession

from dedup_spark.errors import TableError
from dedup_spark.store import delta_log, delta_sql, files
from dedup_spark.store.forgotten import FOLDER
from dedup_spark.store.reader import root_of
from dedup_spark.store.tables import Tables
from dedup_spark.store.vacuum import vacuum

log = logging.getLogger(__name__)

_BEFORE = "dedup_spark.before_forget"
_UNDER_WAY = "erasing"
"""The file that says that tables may have `_BEFORE`."""
_AT_ONCE = {"delta.deletedFileRetentionDuration": "interval 0 hours"}
_FOR_NOW = _AT_ONCE | {"delta.checkpointInterval": "1"}
_POLICY = "delta.checkpointPolicy"
_CLASSIC = {_POLICY: "classic"}
_DELETION_VECTORS, _NEW_CHECKPOINTS = "deletionVectors", "v2Checkpoint"
_CHANGE_DATA = "_change_data"
_SECONDS_AHEAD, _SECONDS_BETWEEN = 60.0, 3.0
"""The clock of a store may be ahead of ours: what was replaced a moment ago is then newer than now, and VACUUM keeps it
until our clock has come so far."""


@contextmanager
def under_way(tables: Tables) -> Iterator[None]:
    """Around calls of `erase_past`: where the block fails or is killed, `end_killed` has something to do."""
    tables.require_lease()
    files.write_atomically(f"{tables.root}/{FOLDER}/{_UNDER_WAY}", b"")
    yield
    files.delete_files(f"{tables.root}/{FOLDER}", [_UNDER_WAY])


def end_killed(tables: Tables) -> None:
    """Give tables their own properties again, where an `erase_past` was killed. One listing where none was."""
    if _UNDER_WAY not in files.list_names(f"{tables.root}/{FOLDER}"):
        return
    tables.require_lease()
    for name in tables.places().values():
        _give_back(tables.spark, name, delta_sql.detail(tables.spark, name)["properties"])
    files.delete_files(f"{tables.root}/{FOLDER}", [_UNDER_WAY])
    log.info("forget: tables have their own properties again, which a command that was killed had changed for the time")


def erase_past(tables: Tables, name: str, *, in_use_seconds: float = 0) -> int | None:
    """Leave of the table nothing but its rows as they are now. Returns how many files of its log went; None where its
    catalog keeps the log, so that none went.

    Args:
        name: Of the table, as SQL names it.
        in_use_seconds: Files that no version names stay where they are younger: of a table to which somebody without
            the lease may be appending.

    Raises:
        TableError: files that no version names stay, or no checkpoint was written; the same call goes on.
    """
    tables.require_lease()
    detail = delta_sql.detail(tables.spark, name)
    path, features = root_of(detail["location"]), detail["tableFeatures"] or ()
    is_kept = delta_sql.newest_commit(path) is None
    _set(tables.spark, name, _AT_ONCE | {_BEFORE: json.dumps(_own(detail["properties"]))})
    if _DELETION_VECTORS in features:
        tables.spark.sql(f"REORG TABLE {name} APPLY (PURGE)")  # a row that is only marked as deleted is in its file
    _delete_unnamed(tables.spark, name, path, in_use_seconds)
    n_files = None if is_kept else _shorten_log(tables, name, path, features)
    _give_back(tables.spark, name, delta_sql.detail(tables.spark, name)["properties"])
    return n_files


def _own(properties: Mapping[str, str]) -> dict[str, str | None]:
    """The table's own values of the properties that change for the time; None where it has none."""
    if _BEFORE in properties:
        held: dict[str, str | None] = json.loads(properties[_BEFORE])
        return held
    return {key: properties.get(key) for key in (*_FOR_NOW, _POLICY)}


def _give_back(spark: SparkSession, name: str, properties: Mapping[str, str]) -> None:
    if _BEFORE not in properties:
        return
    old = _own(properties)
    _set(spark, name, {key: value for key, value in old.items() if value is not None})
    lacking = ", ".join(delta_sql.text(key) for key in [_BEFORE, *(k for k, v in old.items() if v is None)])
    spark.sql(f"ALTER TABLE {name} UNSET TBLPROPERTIES IF EXISTS ({lacking})")


def _delete_unnamed(spark: SparkSession, name: str, path: str, in_use_seconds: float) -> None:
    """Delete what the newest version does not name, and look whether it is gone."""
    end = time.monotonic() + in_use_seconds + _SECONDS_AHEAD
    while True:
        vacuum(spark, name, in_use_seconds / 3600)
        left = _unnamed(spark, name, path)
        if not left:
            return
        if time.monotonic() > end:
            raise TableError(
                f"{name}: {len(left):,} files that no version names were not deleted, the first of them {left[0]}: the "
                "clock of the store is ahead of this machine's, or somebody is writing; the same command deletes them"
            )
        time.sleep(_SECONDS_BETWEEN)


def _unnamed(spark: SparkSession, name: str, path: str) -> list[str]:
    named = {uri.rpartition("/")[2] for uri in spark.sql(f"SELECT * FROM {name}").inputFiles()}
    return delta_log.unnamed([*files.list_names(path), *files.list_names(f"{path}/{_CHANGE_DATA}")], named)


def _shorten_log(tables: Tables, name: str, path: str, features: Collection[str]) -> int:
    """Write a checkpoint, and delete what is before it."""
    before, properties = delta_sql.newest_commit(path), delta_sql.detail(tables.spark, name)["properties"]
    is_new_kind = _NEW_CHECKPOINTS in features or properties.get(_POLICY, "classic") != "classic"
    classic = _CLASSIC if is_new_kind or delta_log.has_sidecars(path) else {}
    _set(tables.spark, name, _FOR_NOW | classic)
    found = delta_log.newest_checkpoint(files.list_names(f"{path}/{delta_log.FOLDER}"))
    if found is None or before is None or found <= before:
        raise TableError(
            f"{name}: its checkpoint was not written, so that the log with what was forgotten stays: do it again with "
            "the same command"
        )
    tables.require_lease()
    n_files = delta_log.drop_before(path, found)
    if classic:
        delta_log.drop_sidecars(path)
    return n_files


def _set(spark: SparkSession, name: str, properties: Mapping[str, str]) -> None:
    if properties:
        named = ", ".join(f"{delta_sql.text(key)} = {delta_sql.text(value)}" for key, value in properties.items())
        spark.sql(f"ALTER TABLE {name} SET TBLPROPERTIES ({named})")

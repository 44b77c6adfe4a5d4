"""`dedup-spark maintain`: puts small files of all tables together, and deletes those of old versions.

A run does the first for the tables that it adds to, where it pays; this does it for all of them, now. Nothing else
deletes old versions: readers may be in the middle of a query, look-ups read the versions of the last finished run.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from pyspark.sql import functions as F

from dedup_spark.commands.text_table import format_table
from dedup_spark.errors import ConfigError
from dedup_spark.step_figures import readable_bytes
from dedup_spark.store import delta_sql
from dedup_spark.store.compaction import compact, files_of
from dedup_spark.store.delta_log import KEEP_DAYS
from dedup_spark.store.runs import mark_same_rows, new_run_id
from dedup_spark.store.schema import ALL, RUNS, TABLE_VERSIONS, Table
from dedup_spark.store.tables import Tables
from dedup_spark.store.vacuum import vacuum
from dedup_spark.vocabulary import RunStatus, StepName

log = logging.getLogger(__name__)

_MARGIN_HOURS = 1.0
"""Between our clock and that of the store."""
_REMEMBERED = "delta.deletedFileRetentionDuration"
_REMEMBERED_BY_DEFAULT_HOURS = 168.0
"""A week (Delta's documentation of table properties)."""


@dataclass(frozen=True)
class Maintained:
    """What was done to a table, or would be.

    Attributes:
        table: Its name.
        n_bytes: Of the data files of its newest version.
        n_files: How many these were.
        n_files_left: How many these are now; in a dry run None where they would be put together.
        kept_hours: Files that no version of so many hours names were deleted, or would be; None where all stay.
    """

    table: str
    n_bytes: int
    n_files: int
    n_files_left: int | None
    kept_hours: float | None


def maintain(
    tables: Tables, *, with_vacuum: bool = False, keep_days: int = KEEP_DAYS, dry_run: bool = False
) -> tuple[Maintained, ...]:
    """Under the lease, except in a dry run. One table after the other; where it is stopped, the same call goes on.

    What is put together has another version and the same rows: `runs` says so, and the next run takes it for unchanged.

    Args:
        with_vacuum: Delete what no version of the last `keep_days` names. The versions that look-ups read, those of
            the last finished run, stay whole however old they are.

    Raises:
        ConfigError: `keep_days` is below 1: a query that began today would lose its files. Or it is longer than Delta
            remembers which files older versions name: it would delete them.
    """
    if keep_days < 1:
        raise ConfigError(f"--keep-days {keep_days}: at least 1, as queries and look-ups read older versions")
    remembered = {table.name: remembered_hours(tables, table) for table in ALL} if with_vacuum else {}
    if remembered and min(remembered.values()) < 24 * keep_days:
        raise _forgets_earlier(keep_days, remembered)
    read = versions_of_lookups(tables) if with_vacuum else {}
    run_id = new_run_id()
    done = list[Maintained]()
    for table in ALL:
        hours = None
        if with_vacuum:
            needed = hours_to_keep(tables, table, read.get(table.name), keep_days)
            hours = _if_remembered(table, needed, remembered[table.name])
        done.append(_would_be(tables, table, hours) if dry_run else _maintain(tables, table, run_id, hours))
    return tuple(done)


def _if_remembered(table: Table, hours: float, remembered: float) -> float | None:
    if hours <= remembered:
        return hours
    log.warning(
        "%s: nothing is deleted: look-ups read a version of %.0f hours ago, and Delta remembers the files of %.0f; "
        "it is done after the next run", table.name, hours, remembered,
    )  # fmt: skip
    return None


def _would_be(tables: Tables, table: Table, hours: float | None) -> Maintained:
    now = files_of(tables, table)
    return Maintained(table.name, now.n_bytes, now.n_files, None if now.are_too_many else now.n_files, hours)


def _maintain(tables: Tables, table: Table, run_id: str, hours: float | None) -> Maintained:
    before, version = files_of(tables, table), tables.version(table)
    left = before
    if compact(tables, table):
        left = files_of(tables, table)
        if table is not RUNS:  # nothing depends on its version, and commands without the lease write to it
            mark_same_rows(tables, run_id, table, version, tables.version(table))
    if hours is not None:
        tables.require_lease()
        vacuum(tables.spark, tables.sql_source(table), hours)
    return Maintained(table.name, before.n_bytes, before.n_files, left.n_files, hours)


def _forgets_earlier(keep_days: int, remembered: dict[str, float]) -> ConfigError:
    name, hours = min(remembered.items(), key=lambda item: item[1])
    return ConfigError(
        f"--keep-days {keep_days}: at most {hours / 24:g}, as Delta remembers for so many days which files older "
        f"versions of {name} name, and a VACUUM deletes all others; its property {_REMEMBERED} makes it longer"
    )


def remembered_hours(tables: Tables, table: Table) -> float:
    """How long the log of a table names the files that were taken out of it: a VACUUM spares no older ones."""
    said = delta_sql.detail(tables.spark, tables.sql_source(table))["properties"].get(_REMEMBERED)
    if said is None:
        return _REMEMBERED_BY_DEFAULT_HOURS
    end = F.lit(datetime(1970, 1, 1, tzinfo=UTC)) + F.expr(f"cast({delta_sql.text(said)} AS interval)")
    row = tables.spark.range(1).select(F.unix_seconds(end).alias("seconds")).first()
    assert row is not None
    return float(row["seconds"]) / 3600


def versions_of_lookups(tables: Tables) -> dict[str, int]:
    """By table the oldest version that a look-up may read: those that the step cluster named when it was last complete,
    or that a command has named since. Some rows of `runs` come to the driver."""
    complete = tables.read(RUNS).where(
        (F.col("status") == RunStatus.COMPLETE) & F.contains("notes", F.lit(TABLE_VERSIONS))
    )
    last = complete.where(F.col("step") == StepName.CLUSTER).agg(F.max("at").alias("at")).first()
    if last is None or last["at"] is None:
        return {}
    notes = [row["notes"] for row in complete.where(F.col("at") >= F.lit(last["at"])).select("notes").collect()]
    return _oldest(json.loads(text)[TABLE_VERSIONS] for text in notes)


def _oldest(named: Iterable[dict[str, int]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for versions in named:
        for name, version in versions.items():
            found[name] = min(version, found.get(name, version))
    return found


def hours_to_keep(tables: Tables, table: Table, read: int | None, keep_days: int) -> float:
    """So long ago the files of version `read` were all still named: since then a later one may have replaced some."""
    hours = 24.0 * keep_days
    if read is None or read >= tables.version(table):
        return hours
    history = tables.spark.sql(f"DESCRIBE HISTORY {tables.sql_source(table)}").where(F.col("version") > read)
    seconds = F.unix_seconds(F.min("timestamp")).alias("seconds")
    row = history.agg(seconds).first()
    if row is None or row["seconds"] is None:
        return hours
    age = (datetime.now(UTC).timestamp() - row["seconds"]) / 3600
    return max(hours, age + _MARGIN_HOURS)


def describe(done: Iterable[Maintained], *, dry_run: bool) -> str:
    """One line for each table, for a terminal."""
    rows = [
        (
            one.table, readable_bytes(one.n_bytes), one.n_files,
            "fewer" if one.n_files_left is None else one.n_files_left,
            "all" if one.kept_hours is None else f"of {one.kept_hours:,.0f} hours",
        )
        for one in done
    ]  # fmt: skip
    text = format_table(("table", "size", "files", "files would be" if dry_run else "files now", "versions kept"), rows)
    return f"{text}\nnothing was changed: this was --dry-run" if dry_run else text

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
from dedup_spark.metrics import readable_bytes
from dedup_spark.store.compaction import compact, files_of
from dedup_spark.store.delta_log import KEEP_DAYS
from dedup_spark.store.schema import ALL, RUNS, TABLE_VERSIONS, Table
from dedup_spark.store.tables import Tables
from dedup_spark.store.vacuum import vacuum
from dedup_spark.vocabulary import RunStatus, StepName

log = logging.getLogger(__name__)

_MARGIN_HOURS = 1.0
"""Between our clock and that of the store."""


@dataclass(frozen=True)
class Maintained:
    """What was done to a table, or would be.

    Attributes:
        table: Its name.
        n_bytes: Of the data files of its newest version.
        n_files: How many these were.
        n_files_left: How many these are now; in a dry run None where they would be put together.
        kept_hours: Files that no version of so many hours names were deleted, or would be; None without a VACUUM.
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

    Args:
        with_vacuum: Delete what no version of the last `keep_days` names. The versions that look-ups read, those of
            the last finished run, stay whole however old they are.

    Raises:
        ConfigError: `keep_days` is below 1: a query that began today would lose its files.
    """
    if keep_days < 1:
        raise ConfigError(f"--keep-days {keep_days}: at least 1, as queries and look-ups read older versions")
    read = versions_of_lookups(tables) if with_vacuum else {}
    return tuple(_maintain(tables, table, read, with_vacuum, keep_days, dry_run) for table in ALL)


def _maintain(
    tables: Tables, table: Table, read: dict[str, int], with_vacuum: bool, keep_days: int, dry_run: bool
) -> Maintained:
    before = files_of(tables, table)
    hours = hours_to_keep(tables, table, read.get(table.name), keep_days) if with_vacuum else None
    if dry_run:
        return Maintained(
            table.name, before.n_bytes, before.n_files, None if before.are_too_many else before.n_files, hours
        )
    left = files_of(tables, table) if compact(tables, table) else before
    if hours is not None:
        tables.require_lease()
        vacuum(tables.spark, tables.sql_source(table), hours)
    return Maintained(table.name, before.n_bytes, before.n_files, left.n_files, hours)


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

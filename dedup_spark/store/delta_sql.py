"""What SQL of Delta is needed: creating a table, MERGE, the history.

A session with the Delta jar and its two settings is enough for it. The Python module `delta`, which says the same, is
not there where the jar lies in an image or in `spark.jars` (EMR, Kubernetes): only `spark.jars.packages` puts it on
Python's path.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from dedup_spark.errors import TableError
from dedup_spark.spark.session import putting_back
from dedup_spark.store import files
from dedup_spark.store.schema import Table

STATISTICS = "delta.dataSkippingStatsColumns"
_COMMIT = re.compile(r"\d{20}\.json")
"""The name of a commit, by Delta's protocol."""
_LOST_COMMIT = re.compile(r"\.+\d{20}\.json\..+\.tmp(\.crc)?")
"""The name of a commit that nobody has given its number yet."""
_OF_A_CATALOG = "_staged_commits"
"""Where commits lie until the catalog that decides on them has given them a number."""


def create_table(spark: SparkSession, name: str, table: Table) -> None:
    """Create it where it is missing. `name`: as SQL writes it, ``delta.`/path` `` or a name in a catalog."""
    columns = ",\n  ".join(f"`{n}` {kind} COMMENT {text(comment)}" for n, kind, comment in table.columns)
    named = {STATISTICS: statistics_of(table), **table.properties}
    properties = ", ".join(f"{text(key)} = {text(value)}" for key, value in named.items())
    spark.sql(
        f"CREATE TABLE IF NOT EXISTS {name} (\n  {columns}\n) USING delta COMMENT {text(table.comment)} "
        f"TBLPROPERTIES ({properties})"
    )


def remove_lost_beginning(path: str) -> bool:
    """Remove what is left of a table whose maker was killed before the first commit: Delta takes a place that is not
    empty for a table, and would make none. Returns whether nothing of it is left; see `files.remove_leftovers`."""
    is_gone = files.remove_leftovers(f"{path}/_delta_log", lambda name: bool(_LOST_COMMIT.fullmatch(name)))
    if is_gone and (folder := files.disk_path(path)) is not None:
        with suppress(OSError):
            folder.rmdir()
    return is_gone


def merge(target: str, rows: DataFrame, condition: str, *clauses: str) -> None:
    """MERGE `rows`, which `condition` and `clauses` call `new`, into the table, which they call `old`; one commit.

    `rows` are a temporary view for that time. Delta sees their plan, and hints in it, as `DeltaTable.merge` shows them.
    """
    view, spark = f"dedup_spark_{secrets.token_hex(8)}", rows.sparkSession

    def drop() -> None:
        spark.catalog.dropTempView(view)

    rows.createTempView(view)
    with putting_back(drop):
        spark.sql(f"MERGE INTO {target} AS old USING {view} AS new ON {condition} " + " ".join(clauses))


def equal(columns: list[str] | tuple[str, ...]) -> str:
    """The condition that old and new rows have the same values in these columns."""
    return " AND ".join(f"old.`{c}` = new.`{c}`" for c in columns)


def assignments(values: Mapping[str, str]) -> str:
    """For UPDATE SET: expressions by the column that gets them."""
    return ", ".join(f"old.`{column}` = {value}" for column, value in values.items())


def detail(spark: SparkSession, name: str) -> dict[str, Any]:
    """What Delta tells of a table: `location`, `numFiles`, `sizeInBytes`, `properties`, `tableFeatures`."""
    row = spark.sql(f"DESCRIBE DETAIL {name}").first()
    if row is None:
        raise TableError(f"{name}: Delta tells nothing of this table")
    return {"tableFeatures": None} | row.asDict()


def newest_version(spark: SparkSession, name: str) -> int:
    """By the table's history: a query of 0.2 s. -1 where the history is empty."""
    row = spark.sql(f"DESCRIBE HISTORY {name} LIMIT 1").select("version").first()
    return int(row["version"]) if row else -1


def newest_commit(path: str) -> int | None:
    """The number of the newest commit of the table at a path, by the names of its commits.

    None where there is no table, and where a catalog decides on commits, which may not be under their numbers yet.
    """
    names = files.list_names(f"{path}/_delta_log")
    if _OF_A_CATALOG in names and files.list_names(f"{path}/_delta_log/{_OF_A_CATALOG}"):
        return None
    return max((int(name.removesuffix(".json")) for name in names if _COMMIT.fullmatch(name)), default=None)


def is_table(path: str) -> bool:
    """Whether there is a table of Delta at a path. One listing, and where that shows no commit another one.

    Delta makes the folders before the first commit: whoever was killed between the two has left no table.
    """
    names = files.list_names(f"{path}/_delta_log")
    if any(_COMMIT.fullmatch(name) for name in names):
        return True
    return _OF_A_CATALOG in names and bool(files.list_names(f"{path}/_delta_log/{_OF_A_CATALOG}"))


def by_path(path: str) -> str:
    """The name in SQL of the table at a path, whatever characters are in it."""
    return "delta.`" + path.replace("`", "``") + "`"


def statistics_of(table: Table) -> str:
    return ",".join(table.statistics or table.key)


def text(value: str) -> str:
    """A literal of SQL."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"

"""The only reader and writer of Delta.

A table lives at `<root>/<name>`, or, with a database, in the catalog as `<database>.<name>`; files that
are not tables (FAISS shards, the report) always live under `<root>`.
"""

from __future__ import annotations

import functools
import logging
import re
import secrets
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import cast

from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from dedup_spark.errors import ConfigError, TableError
from dedup_spark.spark.background import background
from dedup_spark.spark.java_errors import root_cause
from dedup_spark.spark.local_relation import local_relation
from dedup_spark.store import dbfs, delta_sql, files
from dedup_spark.store.lease import Lease
from dedup_spark.store.schema import ALL, COLUMNS, RUNS, Table
from dedup_spark.store.stores import spark_needs
from dedup_spark.store.table_format import FORMAT, Format, read_format, write_format
from dedup_spark.vocabulary import StepName

log = logging.getLogger(__name__)


_STAGING, _FORGOTTEN = "_staging", "_forgotten"
_PROGRESS = {StepName.EMBED: "_embed", StepName.MATCH: "_match"}
"""Where steps keep finished work that later runs continue."""
FOLDERS = (*(table.name for table in ALL), _STAGING, *_PROGRESS.values(), _FORGOTTEN)
"""What lies below the root of tables that have no database, besides shards, leases and the report."""
_REGISTER = f"{_FORGOTTEN}/addresses"
_RENAME_BY_COPYING = ("s3://", "s3a://", "s3n://", "gs://")
"""Stores without folders. Spark commits Parquet by renaming, which there is a copy of each file: the third part of the
bytes that a step writes, and none of it at once."""
_STAGED_AT = "%Y%m%d-%H%M%S"
_DAYS_OF_UNLEASED_STAGING = 2


class Tables:
    """The tables of one root (and database). Cheap to make; holds the session, so never sent to executors.

    Args:
        lease: The right to write; each commit checks that it was not lost. None: the caller promises that nobody else
            writes, or writes nothing but the log of runs.
    """

    def __init__(
        self, spark: SparkSession, root: str, database: str | None = None, *, lease: Lease | None = None
    ) -> None:
        self.spark = spark
        self.root = root.rstrip("/")
        self.database = database
        self.lease = lease
        owner = "run" if lease else "guest"
        self.staging = f"{_STAGING}/{owner}-{datetime.now(UTC).strftime(_STAGED_AT)}-{secrets.token_hex(4)}"
        """Folder below the root for intermediate rows, of this object alone."""
        self._created: set[str] = set()
        self._staged: dict[str, str] = {}

    def create_missing(self) -> None:
        """Create the tables that do not exist yet, and add the columns that tables of an older version lack.

        Raises:
            TableError: the place cannot be written, or a newer version wrote these tables.
        """
        known = self.format()
        try:
            there = [table for table in ALL if self._exists(table)]
            with background(self.spark) as start:
                for table in ALL:
                    if table not in there:
                        start(functools.partial(self._create, table))
                    elif known is None or known.columns != COLUMNS:
                        self._add_columns(table)
            number = known.number if known else FORMAT if not there else 1
            if known != Format(number, COLUMNS):
                write_format(self.root, self.database, Format(number, COLUMNS))
        except (PySparkException, Py4JJavaError, OSError) as e:
            why = root_cause(e)
            lacking = spark_needs(self.root, why)
            raise TableError(f"tables cannot be created at {self.database or self.root}: {why}{lacking}") from e

    def format(self) -> Format | None:
        """Of these tables; None where 0.1.0 wrote them, or there are none. Raises TableError for a newer one."""
        return read_format(self.root, self.database)

    @property
    def options(self) -> str:
        """How a command names these tables."""
        return f"--tables {self.root}" + (f" --database {self.database}" if self.database else "")

    def are_there(self) -> bool:
        """Whether a run has begun to write tables here."""
        return self._exists(RUNS)

    def are_current(self) -> bool:
        """Whether this version of dedup_spark can read and write them as they are."""
        return self.format() == Format(FORMAT, COLUMNS)

    def _add_columns(self, table: Table) -> None:
        """And give the existing columns the comments of this version, which may be better."""
        comments = {field.name: field.metadata.get("comment") for field in self.read(table).schema}
        missing = [(n, t, c) for n, t, c in table.columns if n not in comments]
        if missing:
            columns = ", ".join(f"`{n}` {t} COMMENT {delta_sql.text(c)}" for n, t, c in missing)
            self.spark.sql(f"ALTER TABLE {self.sql_source(table)} ADD COLUMNS ({columns})")
            if any(n in table.statistics for n, _, _ in missing):
                names = f"'{delta_sql.STATISTICS}' = {delta_sql.text(delta_sql.statistics_of(table))}"
                self.spark.sql(f"ALTER TABLE {self.sql_source(table)} SET TBLPROPERTIES ({names})")
            log.info("table %s: new columns %s", table.name, ", ".join(n for n, _, _ in missing))
        changed = [f"`{n}` COMMENT {delta_sql.text(c)}" for n, _, c in table.columns if comments.get(n, c) != c]
        if changed:
            self.spark.sql(f"ALTER TABLE {self.sql_source(table)} ALTER COLUMN {', '.join(changed)}")

    def _create(self, table: Table) -> None:
        if not self.database:
            self.require_lease()
            if not delta_sql.remove_lost_beginning(self._path(table)):
                log.debug("table %s: there is something in its log already", table.name)
        delta_sql.create_table(self.spark, self.sql_source(table), table)
        self._created.add(table.name)

    def read(self, table: Table) -> DataFrame:
        """The table as a lazy DataFrame. Raises TableError when it does not exist."""
        try:
            return (
                self.spark.read.table(self._name(table))
                if self.database
                else self.spark.read.format("delta").load(self._spark_path(table.name))
            )
        except AnalysisException as e:
            raise TableError(
                f"table '{table.name}' not found at {self.place(table)}: run the earlier steps first"
            ) from e

    def rows_now(self, table: Table) -> DataFrame:
        """`read` of what is asked before the next write: no query of Delta's where there are no rows yet."""
        return local_relation(self.spark, [], table.schema) if self.is_untouched(table) else self.read(table)

    def is_untouched(self, table: Table) -> bool:
        """Whether this object has created the table and nobody has written to it since; in a catalog, never."""
        is_ours = table.name in self._created and not self.database
        return is_ours and delta_sql.newest_commit(self._path(table)) == 0

    def append(self, table: Table, rows: DataFrame) -> None:
        """Add rows in one atomic commit. The caller makes sure that a retry adds no row twice.

        Under a lease the commit carries the lease's number as a transaction of Delta's: it fails where a run that
        took over has committed since it began, or has made its `fence`.
        """
        self._write(table, rows, "append", **self._transaction(table))

    def fence(self, table: Table) -> bool:
        """Make an append fail that an earlier run has begun and not committed (see `append`).

        Returns whether there may be one. The commit raises the version of the table, so only a step that is about to
        add rows calls this.
        """
        if self.lease is None or not self.lease.took_over:
            return False
        self._write(table, self.read(table).limit(0), "append", **self._transaction(table))
        self.lease.clear_doubt()
        return True

    def _transaction(self, table: Table) -> dict[str, str]:
        return {} if table is RUNS else self._transaction_of(table.name)  # commands without a lease append to it, too

    def _transaction_of(self, name: str) -> dict[str, str]:
        if self.lease is None:
            return {}
        return {"txnAppId": f"dedup_spark/{name}", "txnVersion": str(self.lease.next_commit())}

    def overwrite(self, table: Table, rows: DataFrame) -> None:
        """Replace all rows in one commit, a transaction as `append`; readers see the old rows or the new ones."""
        self._write(table, rows, "overwrite", **self._transaction(table))

    def replace(self, table: Table, rows: DataFrame, **where: int | str) -> None:
        """Put `rows` in the place of those whose columns have the values of `where`, in one atomic commit.

        All of `rows` have these values. So a step that was killed after its commit and runs again adds no row twice.
        """
        literals = {c: delta_sql.text(v) if isinstance(v, str) else str(v) for c, v in where.items()}
        self._write(table, rows, "overwrite", replaceWhere=" AND ".join(f"{c} = {v}" for c, v in literals.items()))

    def upsert(self, table: Table, rows: DataFrame, *, only_if: str | None = None) -> None:
        """Insert rows, or replace those with the same key; one source row per key.

        `only_if`: rows are replaced where this SQL over `old` and `new` holds; others stay.
        """
        if self.is_untouched(table):
            self.overwrite(table, rows)  # as it reads the whole table, it conflicts with whoever wrote meanwhile
            return
        _require_columns(table, rows.schema)
        matched = f"WHEN MATCHED{f' AND ({only_if})' if only_if else ''} THEN UPDATE SET *"
        self._merge(table, rows, delta_sql.equal(table.key), matched, "WHEN NOT MATCHED THEN INSERT *")

    def update(
        self, table: Table, rows: DataFrame, *, where: str | None = None, key: Sequence[str] | None = None
    ) -> None:
        """Set the columns of `rows` where the key is equal, in one atomic commit; one source row per key.

        Args:
            where: SQL over the columns of `old`, true for the rows to change: Delta passes over files that have none.
            key: Columns that tell rows apart; None: those of the table.
        """
        same_key, keys = delta_sql.equal(tuple(key or table.key)), key or table.key
        values = delta_sql.assignments({c: f"new.`{c}`" for c in rows.columns if c not in keys})
        condition = same_key if where is None else f"{same_key} AND ({where})"
        self._merge(table, rows, condition, f"WHEN MATCHED THEN UPDATE SET {values}")

    def change(self, table: Table, rows: DataFrame, gone: DataFrame) -> None:
        """Put `rows` in the place of those with the same key, and delete those with a key of `gone`, in one commit.

        The keys of both are distinct; a row that the table does not have is not inserted.
        """
        _require_columns(table, rows.schema)
        going = gone.select(*table.key).withColumn("is_gone", F.lit(True))
        both = rows.withColumn("is_gone", F.lit(False)).unionByName(going, allowMissingColumns=True)
        values = delta_sql.assignments({c: f"new.`{c}`" for c in table.column_names if c not in table.key})
        update = f"WHEN MATCHED THEN UPDATE SET {values}"
        self._merge(table, both, delta_sql.equal(table.key), "WHEN MATCHED AND new.is_gone THEN DELETE", update)

    def delete(self, table: Table, keys: DataFrame) -> None:
        """Delete the rows whose columns equal those of `keys` (distinct; each column is a column of the table)."""
        self._merge(table, keys, delta_sql.equal(keys.columns), "WHEN MATCHED THEN DELETE")

    def replace_rows(self, table: Table, rows: DataFrame) -> None:
        """Put each of `rows` in the place of all rows with its key, however many there are, in one atomic commit.

        Unlike `upsert` it removes duplicate rows of a key. `rows` hold each key once. Reads the keys of the table.
        """
        _require_columns(table, rows.schema)
        columns, [key] = table.column_names, table.key
        old_rows = rows.select(F.col(key).alias("old_key"), *columns)
        new_rows = rows.select(F.lit(None).cast("bigint").alias("old_key"), *columns)  # matches nothing: is inserted
        names, values = (", ".join(f"{prefix}`{c}`" for c in columns) for prefix in ("", "new."))
        insert = f"WHEN NOT MATCHED AND new.old_key IS NULL THEN INSERT ({names}) VALUES ({values})"
        both = old_rows.unionByName(new_rows)
        self._merge(table, both, f"old.`{key}` = new.old_key", "WHEN MATCHED THEN DELETE", insert)

    def _merge(self, table: Table, rows: DataFrame, condition: str, *clauses: str) -> None:
        self._commit(lambda: delta_sql.merge(self.sql_source(table), rows, condition, *clauses))

    def version(self, table: Table) -> int:
        """Number of the table's newest commit: changes exactly when its content may have changed.

        By the names of the commits where they say it; a query for the history takes 0.2 s.
        """
        newest = None if self.database else delta_sql.newest_commit(self._path(table))
        return delta_sql.newest_version(self.spark, self.sql_source(table)) if newest is None else newest

    def stage(self, name: str, rows: DataFrame) -> DataFrame:
        """Write intermediate rows below `staging` and read them back: computed once, and safe from lost executors."""
        if self.root.startswith(_RENAME_BY_COPYING):
            return self._stage_in_delta(name, rows)
        path = self._spark_path(f"{self.staging}/{name}")
        self._commit(lambda: rows.write.mode("overwrite").parquet(path))
        return self.spark.read.schema(rows.schema).parquet(re.sub(r"([\\*?\[\]{}])", r"\\\1", path))  # Spark globs

    def _stage_in_delta(self, name: str, rows: DataFrame) -> DataFrame:
        """Where Spark's writer of Parquet would copy each file once more, and leave half of them if it dies meanwhile:
        Delta writes files where they stay, and its commit is one object. Each time into a folder of its own, as the
        session remembers the state of a table by its folder."""
        before, self._staged[name] = self._staged.get(name), f"{name}.{secrets.token_hex(4)}"
        path = self._spark_path(f"{self.staging}/{self._staged[name]}")
        # Nobody skips files here; and a shuffle before the files, as some clusters set it, would have a task done again
        # whose rows were observed.
        options = {"delta.dataSkippingNumIndexedCols": "0", "optimizeWrite": "false"}
        writer = rows.write.format("delta").options(**options)
        self._commit(lambda: writer.save(path))
        if before:
            files.delete_tree(f"{self.root}/{self.staging}/{before}")
        return self.spark.read.format("delta").load(path)

    def drop_staged(self) -> None:
        """Delete everything that `stage` wrote."""
        files.delete_tree(f"{self.root}/{self.staging}")
        files.remove_if_empty(f"{self.root}/{_STAGING}")

    def sweep_staged(self, *, of_guests: bool = False) -> None:
        """Delete what killed runs staged. Only under the lease: no other run is alive then, but commands that take no
        lease (`guest-` in the name of their folder) may be. `of_guests`: delete what they staged, too; they fail."""
        self.require_lease()
        oldest = (datetime.now(UTC) - timedelta(days=_DAYS_OF_UNLEASED_STAGING)).strftime(_STAGED_AT)
        for name in files.list_names(f"{self.root}/{_STAGING}"):
            may_be_in_use = not of_guests and name.startswith("guest-") and name.removeprefix("guest-") > oldest
            if not may_be_in_use and f"{_STAGING}/{name}" != self.staging:
                files.delete_tree(f"{self.root}/{_STAGING}/{name}")
        files.remove_if_empty(f"{self.root}/{_STAGING}")

    def add_progress(self, step: StepName, name: str, rows: DataFrame, *, in_few_files: bool = False) -> None:
        """Add rows in one atomic commit to work that later runs continue; `drop_staged` does not delete them.

        A transaction as `append`; to add no rows acts as `fence`. `in_few_files`: Delta shuffles the rows once, so that
        many tasks with few rows each do not leave as many files.
        """
        options = {"optimizeWrite": "true"} if in_few_files else {}
        self._add_beside(f"{_PROGRESS[step]}/{name}", rows, **options)

    def read_progress(self, step: StepName, name: str) -> DataFrame | None:
        """What `add_progress` wrote; None where it wrote nothing."""
        return self._read_beside(f"{_PROGRESS[step]}/{name}")

    def progress_names(self, step: StepName) -> list[str]:
        """The names under which `add_progress` wrote anything for the step."""
        names = files.list_names(f"{self.root}/{_PROGRESS[step]}")
        return [name for name in names if self.read_progress(step, name) is not None]

    def delete_progress(self, step: StepName, name: str, keys: DataFrame, *, are_few: bool = True) -> None:
        """Delete rows that `add_progress` wrote, by the columns of `keys`, which are distinct.

        `are_few`: they are broadcast, and the rows are not shuffled. Else Spark decides by their size.
        """
        target = delta_sql.by_path(self._spark_path(f"{_PROGRESS[step]}/{name}"))
        same_key = delta_sql.equal(keys.columns)
        new = F.broadcast(keys) if are_few else keys
        self._commit(lambda: delta_sql.merge(target, new, same_key, "WHEN MATCHED THEN DELETE"))

    def add_forgotten(self, rows: DataFrame) -> None:
        """Add rows to what inventory leaves out (see store/forgotten.py), in one atomic commit."""
        self._add_beside(_REGISTER, rows)

    def read_forgotten(self) -> DataFrame | None:
        """What `add_forgotten` wrote; None where it wrote nothing."""
        return self._read_beside(_REGISTER)

    def _add_beside(self, path: str, rows: DataFrame, **options: str) -> None:
        writer = rows.write.format("delta").mode("append").options(**options, **self._transaction_of(path))
        self._commit(lambda: writer.save(self._spark_path(path)))

    def _read_beside(self, path: str) -> DataFrame | None:
        is_there = delta_sql.is_table(f"{self.root}/{path}")
        return self.spark.read.format("delta").load(self._spark_path(path)) if is_there else None

    def places(self) -> dict[str, str]:
        """How SQL names each table of Delta that is there, by its path below the root (of a catalog's, its name)."""
        known = {table.name: self.sql_source(table) for table in ALL}
        beside = [f"{folder}/{name}" for step, folder in _PROGRESS.items() for name in self.progress_names(step)]
        beside += [_REGISTER] if self.read_forgotten() is not None else []
        return known | {path: delta_sql.by_path(self._spark_path(path)) for path in beside}

    def drop_progress(self, step: StepName, *, keep: str | None = None) -> None:
        """Delete all that `add_progress` wrote for the step, except under the name `keep`."""
        self.require_lease()
        folder = f"{self.root}/{_PROGRESS[step]}"
        for name in files.list_names(folder):
            if name != keep:
                files.delete_tree(f"{folder}/{name}")
        files.remove_if_empty(folder)

    def place(self, table: Table) -> str:
        """Where a person finds the table: catalog name or path."""
        return f"{self.database}.{table.name}" if self.database else self._path(table)

    def sql_source(self, table: Table) -> str:
        """How SQL names the table where no view is set up."""
        return self._name(table) if self.database else delta_sql.by_path(self._spark_path(table.name))

    def _write(self, table: Table, rows: DataFrame, mode: str, **options: str) -> None:
        _require_columns(table, rows.schema)
        writer = rows.select(table.column_names).write.format("delta").mode(mode).options(**options)
        if self.database:
            self._commit(lambda: writer.saveAsTable(self._name(table)))
        else:
            self._commit(lambda: writer.save(self._spark_path(table.name)))

    def _commit(self, write: Callable[[], object]) -> None:
        """Write, unless the lease is lost; where the write failed because it was lost meanwhile, raise LeaseError."""
        self.require_lease()
        try:
            write()
        except (PySparkException, Py4JJavaError):
            self.require_lease()
            raise

    def require_lease(self) -> None:
        """Raise LeaseError where the lease is lost; for those that change files of the root themselves."""
        if self.lease:
            self.lease.require()

    def _exists(self, table: Table) -> bool:
        if self.database:
            return self.spark.catalog.tableExists(self._name(table))
        return delta_sql.is_table(self._path(table))

    def _name(self, table: Table) -> str:
        return f"{self.quoted_database}.{table.name}"

    @property
    def quoted_database(self) -> str:
        """The database as SQL reads it, whatever characters are in its name."""
        return quoted_name(parts_of_name(self.database or ""))

    def _path(self, table: Table) -> str:
        return f"{self.root}/{table.name}"

    def _spark_path(self, below: str) -> str:
        return f"{self._root_of_spark}/{below}"

    @functools.cached_property
    def _root_of_spark(self) -> str:
        return dbfs.to_spark(self.spark, self.root)


def parts_of_name(name: str) -> list[str]:
    """Catalog and schema of `catalog.schema`, either of which may be in backticks. Raises ConfigError."""
    parts = re.findall(r"`(?:[^`]|``)+`|[^.`]+", name)
    if ".".join(parts) != name or not 1 <= len(parts) <= 2:
        raise ConfigError(
            f"--database {name}: expected SCHEMA or CATALOG.SCHEMA, with backticks around a dot in a name"
        )
    return [part[1:-1].replace("``", "`") if part.startswith("`") else part for part in parts]


def quoted_name(parts: Sequence[str]) -> str:
    """The parts as one name that SQL reads."""
    return ".".join(f"`{part.replace('`', '``')}`" for part in parts)


def _struct(table: Table) -> T.StructType:
    commented = (f"{name} {type_name} COMMENT {delta_sql.text(comment)}" for name, type_name, comment in table.columns)
    return cast("T.StructType", T.StructType.fromDDL(", ".join(commented)))


def _require_columns(table: Table, found: T.StructType) -> None:
    wanted = {(field.name, field.dataType.simpleString()) for field in _struct(table)}
    have = {(f.name, f.dataType.simpleString()) for f in found}
    if wanted != have:
        raise TableError(
            f"rows for '{table.name}' do not fit it: "
            f"missing {_listed(wanted - have)}; unexpected {_listed(have - wanted)}"
        )


def _listed(columns: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{n} {t}" for n, t in sorted(columns)) or "none"

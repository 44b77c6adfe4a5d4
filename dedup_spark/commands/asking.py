"""Opens finished tables for a question: without Spark, or by a session where there is one or a catalog is asked for.

What needs Spark is imported when it is used: a question without it waits for no JVM, and needs none.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dedup_spark.errors import ConfigError
from dedup_spark.store import dbfs
from dedup_spark.store.duck import duck_tables
from dedup_spark.store.sql_tables import SqlTables
from dedup_spark.store.view_definitions import ViewSettings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from dedup_spark.commands.apart import Place

DUCKDB, SPARK = "duckdb", "spark"
ENGINES = (DUCKDB, SPARK)


def engine_for(engine: str | None, database: str | None, spark: SparkSession | None = None) -> str:
    """The engine asked for; else Spark for a session or a catalog, DuckDB for tables at a path. Raises ConfigError."""
    if engine not in (None, *ENGINES):
        raise ConfigError(f"engine {engine!r}: expected {' or '.join(ENGINES)}")
    if engine == DUCKDB and database:
        raise ConfigError(
            f"--database {database}: DuckDB asks no catalog; give --engine spark, or --tables with the folder in which "
            "the catalog keeps the tables"
        )
    return engine or (SPARK if spark is not None or database else DUCKDB)


@contextmanager
def to_ask(
    command: str,
    spark: SparkSession | None,
    tables: Place,
    *,
    database: str | None = None,
    engine: str | None = None,
    settings: ViewSettings | None = None,
) -> Iterator[SqlTables]:
    """Tables that are there and current, until the block ends. Raises ConfigError."""
    if engine_for(engine, database, spark) == DUCKDB:
        dbfs.require_mounted("--tables", os.fspath(tables))
        with duck_tables(os.fspath(tables), settings) as opened:
            yield opened
        return
    from dedup_spark.commands.opening import Opening, to_read
    from dedup_spark.spark.task_errors import told_in_a_sentence
    from dedup_spark.store.spark_sql import SparkTables

    with told_in_a_sentence(), to_read(Opening(command, spark, tables, database)) as found:
        yield SparkTables(found, settings)

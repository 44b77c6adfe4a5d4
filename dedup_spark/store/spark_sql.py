"""The tables as a session of Spark answers SQL over them: for catalogs, and where the asker brings a session."""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from string import Template
from typing import Any

import pyarrow as pa
from py4j.java_gateway import is_instance_of
from pyspark.errors import AnalysisException, ParseException, PySparkException
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from dedup_spark.errors import ConfigError, DedupError
from dedup_spark.spark.local_relation import local_relation
from dedup_spark.spark.task_errors import error_of_task
from dedup_spark.store.schema import ALL, Table
from dedup_spark.store.sql_tables import Given, Value
from dedup_spark.store.tables import Tables
from dedup_spark.store.view_definitions import VIEWS, ViewSettings, query_of
from dedup_spark.store.views import open_views

_READING = ("Describe", "Show", "ExplainCommand")
_WRITING = tuple(f"org.apache.spark.sql.catalyst.plans.logical.{kind}" for kind in ("Command", "ParsedStatement"))
"""What Spark calls statements that are no queries; the first of these names are the harmless ones among them."""


class SparkTables:
    """Answers SQL over tables by their session; see `SqlTables`."""

    def __init__(self, tables: Tables, settings: ViewSettings | None = None) -> None:
        self._tables = tables
        self._settings = settings or ViewSettings()

    def ask(self, query: str, values: Mapping[str, Value] | None = None, given: Given | None = None) -> pa.Table:
        """See `SqlTables`."""
        name = f"given_{secrets.token_hex(8)}"
        sources = {table.name: self._tables.sql_source(table) for table in ALL}
        views = {view.name: f"({query_of(view, sources, self._settings)})" for view in VIEWS}
        with self._view(name, given):
            text = Template(query).substitute(sources, **views, given=name)
            return self._tables.spark.sql(_with_values(text, values or {})).toArrow()

    def scan(self, query: str, values: Mapping[str, Value] | None = None) -> pa.RecordBatchReader:
        """See `SqlTables`; the driver holds the whole answer."""
        return self.ask(query, values).to_reader()

    def rows(self, table: Table, ids: Sequence[int], columns: Sequence[str] | None = None) -> pa.Table:
        """See `SqlTables`."""
        wanted = F.broadcast(local_relation(self._tables.spark, [(i,) for i in ids], f"{table.key[0]} bigint"))
        found = self._tables.read(table).join(wanted, table.key[0], "left_semi")
        return found.select(list(columns) if columns is not None else table.column_names).toArrow()

    def answer(self, query: str, max_rows: int | None = None) -> pa.Table:
        """See `SqlTables`."""
        open_views(self._tables, self._settings)
        try:
            _require_question(self._tables.spark, query)
            found = self._tables.spark.sql(query)
            return (found if max_rows is None else found.limit(max_rows)).toArrow()
        except (AnalysisException, ParseException) as e:
            raise ConfigError(f"the query is not valid: {str(e).split('JVM stacktrace', 1)[0].strip()}") from e
        except PySparkException as e:
            raise error_of_task(e) or DedupError(f"the query failed: {str(e).strip().splitlines()[0]}") from e

    def stream(self, query: str) -> pa.RecordBatchReader:
        """See `SqlTables`; the driver holds the whole answer."""
        return self.answer(query).to_reader()

    @contextlib.contextmanager
    def _view(self, name: str, given: Given | None) -> Iterator[None]:
        """The rows given as a temporary view of this name, while one query reads it."""
        if given is None:
            yield
            return
        local_relation(self._tables.spark, given.rows, given.columns).createOrReplaceTempView(name)
        try:
            yield
        finally:
            self._tables.spark.catalog.dropTempView(name)


def _with_values(query: str, values: Mapping[str, Value]) -> str:
    """The query with literals for `:name`: Delta's parser leaves Spark's own named parameters unbound (Spark 4.1)."""
    literals = {name: _literal(value) for name, value in values.items()}
    return re.sub(r"(?<!:):([a-z]\w*)", lambda found: literals.get(found[1], found[0]), query)


def _literal(value: Value) -> str:
    """Text goes as hex digits, so that nothing in it is taken for SQL."""
    if isinstance(value, str):
        return f"CAST(unhex('{value.encode().hex()}') AS STRING)"
    return f"{value!r}D" if isinstance(value, float) else str(value)


def _require_question(spark: SparkSession, query: str) -> None:
    """Raise ConfigError where the query, as Spark parses it, does anything but read; ParseException where it cannot."""
    left: list[Any] = [spark._jsparkSession.sessionState().sqlParser().parsePlan(query)]
    while left:
        plan = left.pop()
        name = plan.getClass().getSimpleName()
        if name.startswith(_READING):
            return
        if name.startswith("Compound") or any(
            is_instance_of(spark.sparkContext._gateway, plan, kind) for kind in _WRITING
        ):
            raise ConfigError(
                f"sql answers one query (SELECT) and changes nothing: found {query.split(maxsplit=1)[0].upper()}; only "
                "`dedup-spark` writes tables"
            )
        children = plan.children()
        left += [children.apply(i) for i in range(children.size())]

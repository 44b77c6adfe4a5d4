"""The tables and views without Spark: DuckDB answers SQL, the package `deltalake` reads the tables for it.

Nothing can be written and no other file be read: DuckDB holds no table of its own, opens no file (that is switched off
and locked), fetches no extension, and takes one SELECT at a time. The tables reach it as streams of Arrow batches, of
the columns and rows that a query asks for; what does not fit into memory goes to the folder for temporary files.
DuckDB and not DataFusion, which deltalake could hand its tables to directly: it has the functions of the views
(`get_json_object`, `regexp_extract`, `max ... FILTER`) or macros for them, half the size, and names for its mistakes.
"""

from __future__ import annotations

import re
import secrets
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from string import Template
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dedup_spark.columns import Columns
from dedup_spark.errors import ConfigError, DedupError, TableError
from dedup_spark.store.duck_errors import explained, require_one_question
from dedup_spark.store.reader import dataset_of, root_of
from dedup_spark.store.schema import ALL, COLUMNS, RUNS, Table
from dedup_spark.store.sql_tables import Given, Value
from dedup_spark.store.table_format import FORMAT, Format, read_format
from dedup_spark.store.view_definitions import VIEWS, View, ViewSettings, query_of

if TYPE_CHECKING:
    import pyarrow.dataset as ds

_TABLES: dict[str, Table] = {table.name: table for table in ALL}
_VIEWS: dict[str, View] = {view.name: view for view in VIEWS}
NAMES: dict[str, tuple[str, ...]] = {
    **{name: tuple(table.column_names) for name, table in _TABLES.items()},
    **{name: tuple(column for column, _ in view.columns) for name, view in _VIEWS.items()},
}
"""The columns of every table and view, by its name."""

_MACROS = (
    "startswith(text, start) AS starts_with(text, start)",
    "endswith(text, ending) AS ends_with(text, ending)",
    "try_divide(a, b) AS CASE WHEN b <> 0 THEN a / b END",
    "get_json_object(text, path) AS CASE WHEN json_valid(text) THEN json_extract_string(text, path) END",
    "try_to_timestamp(text) AS TRY_CAST(text AS TIMESTAMPTZ)",
    "make_dt_interval(d, h, m, s) AS to_days(d) + to_hours(h) + to_minutes(m) + to_seconds(s)",
    "hex_id(id) AS lower(lpad(hex(CAST(id AS BIGINT)), 16, '0'))",
    "to_id(text) AS CAST(CAST(CAST('0x' || text AS UBIGINT) AS HUGEINT) - CASE WHEN CAST('0x' || text AS UBIGINT) > "
    "9223372036854775807 THEN 18446744073709551616 ELSE 0 END AS BIGINT)",
)
"""Functions of Spark that views and documents use and DuckDB lacks; and ours, which `views.py` adds to Spark."""

_SETTINGS = (
    "SET TimeZone = 'UTC'",
    "SET enable_progress_bar = false",  # DuckDB's goes to standard output, among the rows
    "SET default_null_order = 'nulls_first_on_asc_last_on_desc'",  # Spark's
    *(f"CREATE MACRO {macro}" for macro in _MACROS),
    "SET enable_external_access = false",
    "SET lock_configuration = true",
)
_RESERVED = re.compile(rb"at(?![\w$])(?!\s*(?:\(|time\s+zone\b))", re.IGNORECASE)
"""The one name of a column, in runs and cluster_history, that is a keyword of DuckDB."""
_WORD = re.compile(r"\w+")
_BATCH_ROWS = 10_000
_INTEGERS = pa.decimal128(38, 0)
"""How sums of integers come out of DuckDB, which has them in 128 bits."""


class DuckTables:
    """Answers SQL over the tables at a root; see `SqlTables`. For one thread.

    Args:
        tables: A local path, or a URI of S3, ADLS or GCS.
        settings: Those of the views.
        storage_options: As of `read_table`.

    Raises:
        ConfigError: a package is missing, or there are no tables, or an older version wrote them.
        TableError: a newer version of dedup_spark wrote them.
    """

    def __init__(
        self,
        tables: str,
        settings: ViewSettings | None = None,
        storage_options: Mapping[str, str] | None = None,
    ) -> None:
        self.root = root_of(tables)
        self._settings = settings or ViewSettings()
        self._options = storage_options
        self._datasets: dict[str, ds.Dataset] = {}
        self._opened: set[str] = set()
        self._require_current(tables)
        self._duckdb, self._connection = _connect()

    def _require_current(self, tables: str) -> None:
        found = read_format(self.root, None)
        if found == Format(FORMAT, COLUMNS):
            return
        if found is None:
            try:
                dataset_of(self.root, RUNS, None, self._options)
            except TableError as e:
                if "not found" not in str(e):
                    raise
                raise ConfigError(
                    f"--tables {tables}: there are no dedup-spark tables; `dedup-spark run` makes them"
                ) from e
        raise ConfigError(
            f"--tables {tables}: an older dedup-spark wrote these tables; `dedup-spark upgrade` with the same --tables "
            "upgrades them"
        )

    def ask(self, query: str, values: Mapping[str, Value] | None = None, given: Given | None = None) -> pa.Table:
        """See `SqlTables`."""
        with explained(self._duckdb, NAMES):
            return self._interruptible(lambda: self._of_ours(query, values, given).to_arrow_table())

    def scan(self, query: str, values: Mapping[str, Value] | None = None) -> pa.RecordBatchReader:
        """See `SqlTables`."""
        with explained(self._duckdb, NAMES):
            return self._read(self._interruptible(lambda: self._of_ours(query, values)))

    def _of_ours(self, query: str, values: Mapping[str, Value] | None, given: Given | None = None) -> Any:
        """The query as a relation of DuckDB, with what it names open."""
        text = Template(query).substitute({name: name for name in (*NAMES, "given")})
        text = re.sub(r"(?<!:):(\w+)", r"$\1", text)
        self._open_all_named(text)
        if given is not None:
            names = Columns(given.columns)
            columns = list(zip(*given.rows, strict=True)) or [()] * len(names.names)
            self._connection.register("given", pa.table(list(map(pa.array, columns)), names.names).cast(names.arrow))
        return self._connection.sql(text, params=dict(values) if values else None)

    def rows(self, table: Table, ids: Sequence[int], columns: Sequence[str] | None = None) -> pa.Table:
        """See `SqlTables`. Reads the ids of the files that may hold them, then the row groups that do."""
        import pyarrow.compute as pc

        dataset = self._dataset(table)
        names = list(columns) if columns is not None else dataset.schema.names
        wanted = pc.field(table.key[0]).isin(pa.array(ids, pa.int64()))
        holders = dataset.to_table(columns=["__filename"], filter=wanted)
        files = set(holders["__filename"].unique().to_pylist())
        found = [dataset.schema.empty_table().select(names)]
        for file in (f for f in dataset.get_fragments() if f.path in files):
            groups = file.split_by_row_group(schema=dataset.schema)
            holding = (group for group in groups if group.count_rows(filter=wanted))
            found += [group.to_table(dataset.schema, columns=names, filter=wanted) for group in holding]
        return pa.concat_tables(found)

    def answer(self, query: str, max_rows: int | None = None) -> pa.Table:
        """See `SqlTables`."""
        asked = self._asked(query)
        with explained(self._duckdb, NAMES):
            found = self._connection.sql(asked)
            limited = found if max_rows is None else found.limit(max_rows)
            table = self._interruptible(limited.to_arrow_table)
        return pa.Table.from_batches(map(_with_integers, table.to_batches()), _with_integers(table.schema))

    def stream(self, query: str) -> pa.RecordBatchReader:
        """See `SqlTables`."""
        asked = self._asked(query)
        with explained(self._duckdb, NAMES):
            return self._read(self._connection.sql(asked))

    def _read(self, found: Any) -> pa.RecordBatchReader:
        """The rows of a relation, batch by batch; errors are ours, also where they come late."""
        reader = self._interruptible(lambda: found.to_arrow_reader(_BATCH_ROWS))

        def batches() -> Iterator[pa.RecordBatch]:
            with explained(self._duckdb, NAMES):
                while (batch := self._interruptible(lambda: next(reader, None))) is not None:
                    yield _with_integers(batch)

        return pa.RecordBatchReader.from_batches(_with_integers(reader.schema), batches())

    def close(self) -> None:
        self._connection.close()

    def _interruptible(self, ask: Callable[[], Any]) -> Any:
        """What `ask` returns, from a thread of its own: the main thread must hear Ctrl-C, and DuckDB looks for it in
        some queries only."""
        if threading.current_thread() is not threading.main_thread():
            return ask()
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(ask)
            try:
                return asked.result()
            finally:
                if not asked.done():
                    self._connection.interrupt()

    def _asked(self, query: str) -> str:
        """The query as DuckDB takes it, with the tables and views that it names open. Raises ConfigError."""
        asked = with_names_quoted(self._duckdb, query)
        with explained(self._duckdb, NAMES):
            require_one_question(self._duckdb, self._connection.extract_statements(asked))
            self._open_all_named(asked)
        return asked

    def _open_all_named(self, query: str) -> None:
        """Open the tables and views whose names are among the words of the query; all, where none is.

        To open a table reads its log, a request or more in a store.
        """
        named = [name for name in map(str.lower, _WORD.findall(query)) if name in NAMES]
        for name in dict.fromkeys(named or NAMES):
            self._open(name)

    def _open(self, name: str) -> None:
        if name in self._opened:
            return
        if name in _TABLES:
            self._connection.register(name, self._dataset(_TABLES[name]))
        else:
            view = _VIEWS[name]
            for table in Template(query_of(view, _PLACES, self._settings)).get_identifiers():
                self._open(table)
            query = query_of(view, {table: table for table in _TABLES}, self._settings)
            self._connection.execute(f"CREATE VIEW {name} AS {query}")
        self._opened.add(name)

    def _dataset(self, table: Table) -> ds.Dataset:
        if table.name not in self._datasets:
            self._datasets[table.name] = dataset_of(self.root, table, None, self._options)
        return self._datasets[table.name]


_PLACES = {name: f"${{{name}}}" for name in _TABLES}


@contextmanager
def duck_tables(
    tables: str, settings: ViewSettings | None = None, storage_options: Mapping[str, str] | None = None
) -> Iterator[DuckTables]:
    """The tables until the block ends. Arguments and errors as of `DuckTables`."""
    opened = DuckTables(tables, settings, storage_options)
    try:
        yield opened
    finally:
        opened.close()


def with_names_quoted(duckdb: Any, query: str) -> str:
    """The query with `at` in quotes where it stands for a column or an alias; texts and comments stay as they are."""
    raw = query.encode(errors="surrogatepass")
    keywords = [start for start, kind in duckdb.tokenize(query) if kind == duckdb.token_type.keyword]
    for start in reversed(keywords):
        if _RESERVED.match(raw, start):
            raw = b"".join((raw[:start], b'"', raw[start : start + 2], b'"', raw[start + 2 :]))
    return raw.decode(errors="surrogatepass")


def _connect() -> tuple[Any, Any]:
    try:
        import duckdb
    except ImportError as e:
        raise ConfigError("to query tables without Spark needs DuckDB: `pip install 'dedup-spark[reader]'`") from e
    connection = duckdb.connect(
        ":memory:",
        config={
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "python_enable_replacements": "false",  # a name in SQL is no variable of Python
            "temp_directory": f"{tempfile.gettempdir()}/dedup_spark-{secrets.token_hex(8)}",  # made when it is needed
        },
    )
    for statement in _SETTINGS:
        connection.execute(statement)
    return duckdb, connection


def _with_integers(held: Any) -> Any:
    """A schema or a batch with sums of integers in 64 bits. Raises DedupError where one does not fit."""
    schema = held if isinstance(held, pa.Schema) else held.schema
    if _INTEGERS not in schema.types:
        return held
    narrow = pa.schema([f.with_type(pa.int64()) if f.type == _INTEGERS else f for f in schema])
    if held is schema:
        return narrow
    try:
        return held.cast(narrow)
    except pa.ArrowInvalid as e:
        raise DedupError("a number of the answer has more than 64 bits: cast it to DOUBLE in the query") from e

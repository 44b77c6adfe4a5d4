"""How the SQL views are opened: in a session, in a catalog or from a script."""

from __future__ import annotations

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame

from dedup_spark.errors import TableError
from dedup_spark.store.schema import ALL
from dedup_spark.store.tables import Tables
from dedup_spark.store.view_definitions import VIEWS, View, ViewSettings, query_of

__all__ = ["ViewSettings", "create_views", "open_views", "read_view", "views_script"]


_DEFAULTS = ViewSettings()


def create_views(tables: Tables, settings: ViewSettings = _DEFAULTS) -> None:
    """Create the views: in the catalog when the tables are in a database, else in this session by bare name.

    Raises:
        TableError: when a table is not there.
    """
    if tables.database:
        _execute(tables, [_in_catalog(tables, view, settings) for view in VIEWS])
    else:
        open_views(tables, settings)


def open_views(tables: Tables, settings: ViewSettings = _DEFAULTS) -> None:
    """All tables and views by bare name in this session only; nothing is written, wherever the tables are.

    Raises:
        TableError: when a table is not there.
    """
    _execute(tables, [*_FUNCTIONS, *_temporary(tables, settings)])


def read_view(tables: Tables, view: View, settings: ViewSettings = _DEFAULTS) -> DataFrame:
    """The view as a lazy DataFrame, whether or not it has been created."""
    return tables.spark.sql(_query(tables, view, settings))


def views_script(tables: Tables, settings: ViewSettings = _DEFAULTS) -> str:
    """SQL statements that open every table and view by bare name, for `spark-sql -i`.

    `spark-sql` splits scripts itself and fails at a quote or a semicolon in a path; any other program can run it.
    """
    return "\n".join([_SCRIPT_HEADER, *(f"{statement};\n" for statement in _temporary(tables, settings))])


_FUNCTIONS = (
    "CREATE OR REPLACE TEMPORARY FUNCTION hex_id(id BIGINT) RETURNS STRING RETURN lower(lpad(hex(id), 16, '0'))",
    "CREATE OR REPLACE TEMPORARY FUNCTION to_id(text STRING) RETURNS BIGINT RETURN cast(conv(text, 16, -10) AS BIGINT)",
)
"""An id as commands show it, and back; `duck.py` has the same."""

_SCRIPT_HEADER = """\
-- Opens the tables and views of dedup_spark by name, for this session only:
--   spark-sql -i views.sql
-- Spark needs Delta. Where the platform does not bring it, give the settings of conf/local as well:
--   spark-sql --properties-file conf/local/spark-defaults.conf -i views.sql
"""


def _temporary(tables: Tables, settings: ViewSettings) -> list[str]:
    """Statements, each of which works without the others: views read tables directly, not each other."""
    opened = [
        f"CREATE OR REPLACE TEMPORARY VIEW {table.name} COMMENT {_quoted(table.comment)} AS\n"
        f"SELECT * FROM {tables.sql_source(table)}"
        for table in ALL
    ]
    return opened + [
        f"CREATE OR REPLACE TEMPORARY VIEW {view.name} {_signature(view)} AS\n{_query(tables, view, settings)}"
        for view in VIEWS
    ]


def _in_catalog(tables: Tables, view: View, settings: ViewSettings) -> str:
    name = f"{tables.quoted_database}.{view.name}"
    return f"CREATE OR REPLACE VIEW {name} {_signature(view)} AS\n{_query(tables, view, settings)}"


def _signature(view: View) -> str:
    columns = ",\n  ".join(f"{name} COMMENT {_quoted(comment)}" for name, comment in view.columns)
    return f"(\n  {columns}\n) COMMENT {_quoted(view.comment)}"


def _query(tables: Tables, view: View, settings: ViewSettings) -> str:
    return query_of(view, {table.name: tables.sql_source(table) for table in ALL}, settings)


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _execute(tables: Tables, statements: list[str]) -> None:
    try:
        for statement in statements:
            tables.spark.sql(statement)
    except AnalysisException as e:
        place = tables.database or tables.root
        reason = str(e).splitlines()[0]
        raise TableError(
            f"the views over {place} cannot be opened; are all tables there? Spark reports: {reason}"
        ) from e

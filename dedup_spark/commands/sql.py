"""`dedup-spark sql`: every table and view by its bare name, with no catalog set up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyspark.errors import AnalysisException, ParseException

from dedup_spark.errors import ConfigError
from dedup_spark.store.tables import Tables
from dedup_spark.store.views import ViewSettings, open_views

_MAX_CELL_CHARACTERS = 100


def run_sql(tables: Tables, query: str, max_rows: int, settings: ViewSettings, say: Callable[[str], None]) -> None:
    """Run one query and say its rows, at most `max_rows`.

    Raises:
        ConfigError: when the query is not valid; with Spark's own explanation.
    """
    open_views(tables, settings)
    try:
        answer = tables.spark.sql(query)
    except (AnalysisException, ParseException) as e:
        raise ConfigError(f"the query is not valid: {str(e).split('JVM stacktrace', 1)[0].strip()}") from e
    rows = answer.limit(max_rows + 1).collect()
    say(format_table(answer.columns, [list(r) for r in rows[:max_rows]]))
    if len(rows) > max_rows:
        say(f"... more than {max_rows} rows; --rows N shows more")


def format_table(columns: list[str], rows: list[list[Any]]) -> str:
    """Rows as aligned text; numbers to the right."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max([len(name), *(len(row[i]) for row in cells)]) for i, name in enumerate(columns)]
    right = [all(isinstance(row[i], int | float) or row[i] is None for row in rows) for i in range(len(columns))]

    def line(texts: list[str]) -> str:
        padded = [t.rjust(w) if r else t.ljust(w) for t, w, r in zip(texts, widths, right, strict=True)]
        return "  ".join(padded).rstrip()

    return "\n".join([line(columns), line(["-" * w for w in widths]), *(line(row) for row in cells)])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes | bytearray):
        return f"<{len(value)} bytes>"
    text = f"{value:.4f}" if isinstance(value, float) else str(value)
    text = text.replace("\r", "\\r").replace("\n", "\\n")  # one line a row, whatever a file is called
    return text if len(text) <= _MAX_CELL_CHARACTERS else text[: _MAX_CELL_CHARACTERS - 3] + "..."

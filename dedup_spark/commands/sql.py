"""`dedup-spark sql`: every table and view by its bare name, with no catalog set up."""

from __future__ import annotations

from collections.abc import Callable

from pyspark.errors import AnalysisException, ParseException

from dedup_spark.commands.text_table import format_table
from dedup_spark.errors import ConfigError
from dedup_spark.store.tables import Tables
from dedup_spark.store.views import ViewSettings, open_views


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

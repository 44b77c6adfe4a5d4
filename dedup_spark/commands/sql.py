"""`dedup-spark sql`: answers a query over every table and view by its bare name, without a catalog."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pyarrow as pa
from pyspark.errors import AnalysisException, ParseException, PySparkException

from dedup_spark.commands.text_table import format_table
from dedup_spark.errors import ConfigError, DedupError
from dedup_spark.spark.task_errors import error_of_task
from dedup_spark.store.tables import Tables
from dedup_spark.store.views import ViewSettings, open_views


def run_query(tables: Tables, query: str, settings: ViewSettings, max_rows: int | None = None) -> pa.Table:
    """The answer to one query, at most `max_rows` rows, in the memory of the driver.

    Raises:
        ConfigError: The query is not valid; the message has Spark's own explanation.
        DedupError: The query fails while it runs, or gives a type that Arrow lacks.
    """
    open_views(tables, settings)
    try:
        answer = tables.spark.sql(query)
        return (answer if max_rows is None else answer.limit(max_rows)).toArrow()
    except (AnalysisException, ParseException) as e:
        raise ConfigError(f"the query is not valid: {str(e).split('JVM stacktrace', 1)[0].strip()}") from e
    except PySparkException as e:
        raise error_of_task(e) or DedupError(f"the query failed: {str(e).strip().splitlines()[0]}") from e


def describe_answer(answer: pa.Table, max_rows: int) -> str:
    """At most `max_rows` rows as aligned text, and a last line where there are more."""
    columns = [[plain_value(value) for value in column.to_pylist()] for column in answer.slice(0, max_rows).columns]
    lines = [format_table(answer.column_names, [list(row) for row in zip(*columns, strict=True)])]
    if len(answer) > max_rows:
        lines.append(f"... there are more than {max_rows} rows; --rows N shows more")
    return "\n".join(lines)


def plain_value(value: Any) -> Any:
    """A value of Arrow as Spark's rows have it: a time without its zone, which is UTC, and a map as a dict."""
    if isinstance(value, datetime):
        return value.replace(tzinfo=None)
    if isinstance(value, list) and value and all(isinstance(item, tuple) for item in value):
        return dict(value)
    return value

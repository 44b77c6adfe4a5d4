"""Tables that answer SQL: what commands ask them with, whichever engine runs the query. No Spark.

`duck.py` has them without Spark, `spark_sql.py` by a session. A query is written once, in what both engines understand
(see `view_definitions.py`): `$images` is the table, `$duplicates` the view, `:uri` a value and `$given` the rows handed
over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from dedup_spark.store.schema import Table

Value = int | float | str


@dataclass(frozen=True)
class Given:
    """Rows that a query joins with tables, as `$given`: at most as many as a person or one component has.

    Attributes:
        columns: Names and types as in Spark's DDL: "image_id bigint".
        rows: Each with its values in the order of the columns.
    """

    columns: str
    rows: Sequence[Sequence[Any]]

    @classmethod
    def ids(cls, ids: Sequence[int]) -> Given:
        """One column, image_id."""
        return cls("image_id bigint", [(i,) for i in ids])


class SqlTables(Protocol):
    """The tables of one root, or one database, for questions; nothing is written."""

    def ask(self, query: str, values: Mapping[str, Value] | None = None, given: Given | None = None) -> pa.Table:
        """The answer to a query of ours, in memory."""
        ...

    def scan(self, query: str, values: Mapping[str, Value] | None = None) -> pa.RecordBatchReader:
        """The same batch by batch, for answers larger than memory."""
        ...

    def rows(self, table: Table, ids: Sequence[int], columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of these image ids, in any order; `columns` in this order, None: all.

        For wide columns (a thumbnail, an embedding): no more of them is read than the files' layout asks for.
        """
        ...

    def answer(self, query: str, max_rows: int | None = None) -> pa.Table:
        """The answer to a query that a user wrote over the names of tables and views; at most `max_rows` rows.

        Raises:
            ConfigError: The query is not valid, or is none.
            DedupError: The query fails while it runs.
        """
        ...

    def stream(self, query: str) -> pa.RecordBatchReader:
        """The same batch by batch, for answers larger than memory. Errors as of `answer`, also from the reader."""
        ...


def first_row(rows: pa.Table) -> dict[str, Any] | None:
    """The first row as a dict; None where there is none."""
    return rows.slice(0, 1).to_pylist()[0] if len(rows) else None

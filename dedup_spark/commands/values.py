"""Values of Arrow as commands show them: ids in hex, times in UTC without their zone, maps as such. No Spark."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pyarrow as pa

from dedup_spark.commands.image_ids import in_hex, is_id


def shown_columns(table: pa.Table) -> list[list[Any]]:
    """The values of each column: those of ids and hashes as 16 hex digits, the others as `plain_value` gives them."""
    return [
        [_id(value) if is_id(name, column.type) else plain_value(value) for value in column.to_pylist()]
        for name, column in zip(table.column_names, table.columns, strict=True)
    ]


def plain_value(value: Any) -> Any:
    """A value of Arrow as Spark's rows have it: a time without its zone, which is UTC, and a map as a dict."""
    if isinstance(value, datetime):
        return value.replace(tzinfo=None)
    if isinstance(value, list) and value and all(isinstance(item, tuple) for item in value):
        return dict(value)
    return value


def _id(value: int | list[int] | None) -> Any:
    if value is None:
        return None
    return [in_hex(one) for one in value] if isinstance(value, list) else in_hex(value)

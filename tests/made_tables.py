"""Tables written by deltalake, without Spark: all of them, with the rows given by the name of their table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import write_deltalake

from dedup_spark.store.schema import ALL, COLUMNS
from dedup_spark.store.table_format import FORMAT, Format, write_format


def write_tables(
    root: str | Path, rows: Mapping[str, list[dict[str, Any]]], storage_options: dict[str, str] | None = None
) -> str:
    """Write every table below `root`, and say that this version wrote them; a missing column is null."""
    for table in ALL:
        made = pa.Table.from_pylist(rows.get(table.name, []), table.schema.arrow)
        write_deltalake(f"{root}/{table.name}", made, storage_options=storage_options)
    write_format(str(root), None, Format(FORMAT, COLUMNS))
    return str(root)

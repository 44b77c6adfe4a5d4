"""`dedup-spark sql`: answers a query over every table and view by its bare name, as text or as a file. No Spark."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
import os
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from dedup_spark.commands.text_table import fitted, format_table
from dedup_spark.commands.values import plain_value, shown_columns
from dedup_spark.errors import ConfigError

CSV, JSON, PARQUET = "csv", "json", "parquet"
FORMATS = (CSV, JSON, PARQUET)
"""What an answer is written as, by the names of their options and the endings of their files."""


def describe_answer(answer: pa.Table, max_rows: int, *, width: int | None = None, vertical: bool = False) -> str:
    """At most `max_rows` rows as aligned text, and a last line where there are more.

    Args:
        width: Of the terminal, to which long cells are cut; None: no terminal, and nothing is cut.
        vertical: A line for each value instead of one for each row.
    """
    columns = shown_columns(answer.slice(0, max_rows))
    rows = [list(row) for row in zip(*columns, strict=True)]
    if vertical:
        lines = [_one_below_the_other(answer.column_names, rows)]
    elif width:
        lines = [fitted(answer.column_names, rows, width)]
    else:
        lines = [format_table(answer.column_names, rows, most=None)]
    if len(answer) > max_rows:
        lines.append(f"... there are more than {max_rows} rows; --rows N shows more")
    return "\n".join(lines)


def format_of(asked: str | None, out: str | None) -> str | None:
    """The format for an answer by the option and the name of the file; None: text. Raises ConfigError."""
    suffix = Path(out).suffix.lstrip(".").lower() if out else ""
    if out and not asked and suffix not in FORMATS:
        raise ConfigError(
            f"--out {out}: expected a file that ends with .csv, .json or .parquet, or one of these options"
        )
    folder = Path(out or "").absolute().parent
    if out and not (os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)):
        raise ConfigError(f"--out {out}: expected a file in a folder that can be written to; {folder} is none")
    if out and os.path.isdir(out):
        raise ConfigError(f"--out {out}: expected a file; this is a folder")
    if asked == PARQUET and not out:
        raise ConfigError("--parquet: it is no text; give --out with the name of a file")
    return asked or (suffix if out else None)


def as_text(answer: pa.RecordBatchReader, kind: str) -> Iterator[str]:
    """The answer as CSV or as one array of JSON, a piece a batch, without the last end of a line.

    Values as in the tables: ids are numbers, times ISO 8601 in UTC, bytes base64.
    """
    yield from (_as_csv if kind == CSV else _as_json)(answer)


def write_answer(answer: pa.RecordBatchReader, kind: str, out: str) -> int:
    """Write the answer to a file, whole or not at all, batch by batch; returns the number of rows."""
    beside = f"{out}.{secrets.token_hex(4)}.part"
    try:
        n_rows = _write_parquet(answer, beside) if kind == PARQUET else _write_text(answer, kind, beside)
        os.replace(beside, out)
    finally:
        Path(beside).unlink(missing_ok=True)
    return n_rows


def _write_parquet(answer: pa.RecordBatchReader, path: str) -> int:
    import pyarrow.parquet as pq

    n_rows = 0
    with pq.ParquetWriter(path, answer.schema) as writer:
        for batch in answer:
            writer.write_batch(batch)
            n_rows += len(batch)
    return n_rows


def _write_text(answer: pa.RecordBatchReader, kind: str, path: str) -> int:
    counted = _Counted(answer)
    with open(path, "w", encoding="utf-8", newline="") as f:
        f.writelines(f"{piece}\n" for piece in as_text(counted.reader, kind))
    return counted.n_rows


class _Counted:
    """A reader that counts the rows which pass."""

    def __init__(self, answer: pa.RecordBatchReader) -> None:
        self.n_rows = 0
        self.reader = pa.RecordBatchReader.from_batches(answer.schema, self._batches(answer))

    def _batches(self, answer: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
        for batch in answer:
            self.n_rows += len(batch)
            yield batch


def _as_csv(answer: pa.RecordBatchReader) -> Iterator[str]:
    yield _csv_lines([answer.schema.names])
    for batch in answer:
        columns = [[_csv_value(value) for value in column.to_pylist()] for column in batch.columns]
        if len(batch):
            yield _csv_lines(zip(*columns, strict=True))


def _csv_lines(rows: Any) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().removesuffix("\n")


def _csv_value(value: Any) -> Any:
    """A text, or None, which is an empty cell."""
    value = _json_value(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict | bool) else value


def _as_json(answer: pa.RecordBatchReader) -> Iterator[str]:
    before = "["
    for batch in answer:
        columns = [[_json_value(value) for value in column.to_pylist()] for column in batch.columns]
        rows = [dict(zip(batch.schema.names, row, strict=True)) for row in zip(*columns, strict=True)]
        if rows:
            yield before + "\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
            before = ","
    yield "[]" if before == "[" else "]"


def _json_value(value: Any) -> Any:
    value = plain_value(value)
    if isinstance(value, dict):
        return {str(k): _json_value(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_json_value(v) for v in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int | bool | None) else str(value)


def _one_below_the_other(names: list[str], rows: list[list[Any]]) -> str:
    name_width = max(map(len, names), default=0)
    lines = []
    for i, row in enumerate(rows, 1):
        lines += [
            f"-- row {i}",
            *(f"{n.ljust(name_width)}  {_line_of(v)}".rstrip() for n, v in zip(names, row, strict=True)),
        ]
    return "\n".join(lines) or "no rows"


def _line_of(value: Any) -> str:
    if value is None:
        return ""
    return f"<{len(value)} bytes>" if isinstance(value, bytes) else str(value).replace("\r", "\\r").replace("\n", "\\n")

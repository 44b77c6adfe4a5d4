"""Helpers of the tests of sources: listings as Python rows, and names that are easily taken for syntax."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T

from dedup_spark.sources.base import LISTING, Address, Source

ODD_NAME = "100%25 a+b #1 [x]{y} café::v?=.jpg"


def listed(source: Source, spark: SparkSession) -> list[dict[str, Any]]:
    """The rows of images, ordered by uri and member; their schema is LISTING."""
    return [row for row in _rows(source, spark) if row["passed_over"] is None]


def passed_over(source: Source, spark: SparkSession) -> dict[str, tuple[int, str]]:
    """The objects that the listing passes over: by reason, how many, and the first uri (and member)."""
    found: dict[str, tuple[int, str]] = {}
    for row in _rows(source, spark):
        if row["passed_over"] is not None:
            n, first = found.get(row["passed_over"], (0, " ".join(filter(None, (row["uri"], row["member"])))))
            found[row["passed_over"]] = (n + row["n_passed_over"], first)
    return found


def _rows(source: Source, spark: SparkSession) -> list[dict[str, Any]]:
    rows = source.list_images(spark)
    assert simple(rows.schema) == simple(T.StructType.fromDDL(LISTING.ddl))
    return sorted((row.asDict() for row in rows.collect()), key=lambda row: (row["uri"], row["member"] or ""))


def simple(schema: Any) -> list[tuple[str, str]]:
    return [(field.name, field.dataType.simpleString()) for field in schema]


def address_of(row: dict[str, Any]) -> Address:
    return Address(row["uri"], row["member"], row["location"], row["position"], row["size_bytes"])


def fetched(source: Source, rows: list[dict[str, Any]]) -> list[bytes]:
    return [source.fetch(address_of(row)) for row in rows]


def plan_of(rows: DataFrame) -> str:
    """Spark's physical plan, as text."""
    return str(rows._jdf.queryExecution().executedPlan().toString())  # type: ignore[operator]


class InThisProcess:
    """Of a session as much as a folder needs to be listed without workers, which do not see this process's memory."""

    def __init__(self) -> None:
        self.sparkContext = SimpleNamespace(defaultParallelism=2)

    def createDataFrame(self, rows: pa.Table, _: Any) -> InThisProcess:  # noqa: N802
        self.rows = rows.to_pylist()
        return self

    def repartition(self, _: int) -> InThisProcess:
        return self

    def mapInArrow(self, work: Callable[..., Iterator[pa.RecordBatch]], _: str) -> InThisProcess:  # noqa: N802
        batches = [pa.RecordBatch.from_pylist([row]) for row in self.rows]
        self.made = [row for batch in work(iter(batches)) for row in batch.to_pylist()]
        return self

    def collect(self) -> list[Any]:
        return [SimpleNamespace(asDict=lambda row=row: row) for row in self.made]


class as_nobody_if_root:  # noqa: N801 - reads as a statement
    """Root may read everything: for a while this process is another user, who owns the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.user = folder, os.geteuid()

    def __enter__(self) -> None:
        if self.user == 0:
            os.chown(self.folder, 65534, 65534)
            os.seteuid(65534)

    def __exit__(self, *_: object) -> None:
        os.seteuid(self.user)

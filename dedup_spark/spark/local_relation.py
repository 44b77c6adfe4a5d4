"""Rows that the driver holds, as a DataFrame."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from dedup_spark.columns import Columns


def local_relation(spark: SparkSession, rows: Iterable[Sequence[Any]], schema: Columns | str) -> DataFrame:
    """A DataFrame of a few rows, each with its values in the order of `schema` (or its DDL).

    They go to the JVM as Arrow and, up to 48 MB, stay in the plan (Spark's LocalRelation). `createDataFrame` of a list
    starts a Python task on executors for each slice, as many as the cluster has cores, to turn the same rows into
    Spark's. Times without a zone are UTC. Numbers inside arrays and maps are cast to their type.

    Raises:
        pyarrow.ArrowException, OverflowError: a value does not fit its column.
        UnicodeEncodeError: a text holds half of a surrogate pair.
    """
    wanted = Columns(schema) if isinstance(schema, str) else schema
    columns = list(zip(*rows, strict=True)) or [()] * len(wanted.names)
    arrays = [_array(column, kind) for column, kind in zip(columns, wanted.arrow.types, strict=True)]
    return spark.createDataFrame(pa.table(arrays, names=wanted.names), wanted.ddl)


def _array(column: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_nested(kind):
        return pa.array(column, kind)
    return pa.array(column).cast(kind)  # this refuses 1.5 as an integer

"""Rows of the driver as a DataFrame."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T
from pyspark.sql.pandas.types import to_arrow_schema


def local_relation(spark: SparkSession, rows: Iterable[Sequence[Any]], schema: T.StructType | str) -> DataFrame:
    """A few rows, each with its values in the order of `schema` (a StructType or DDL), as a DataFrame.

    Goes to the JVM as Arrow and stays in the plan (Spark's LocalRelation). `createDataFrame` of a list starts a
    Python task on executors for each slice, as many as the cluster has cores, to turn the same rows into Spark's.
    Times without a zone are UTC.

    Raises:
        pyarrow.ArrowInvalid, pyarrow.ArrowTypeError: a value does not fit its column.
    """
    struct = T.StructType.fromDDL(schema) if isinstance(schema, str) else schema
    assert isinstance(struct, T.StructType)
    columns = list(zip(*rows, strict=True)) or [()] * len(struct)
    kinds = to_arrow_schema(struct).types
    arrays = [pa.array(column, kind) for column, kind in zip(columns, kinds, strict=True)]
    return spark.createDataFrame(pa.table(arrays, names=struct.names), struct)

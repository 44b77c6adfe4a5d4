"""Rows of the driver as a DataFrame: every kind of column, and no task in Python."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pytest
from pyspark.sql import Row, SparkSession
from pyspark.sql import functions as F

from dedup_spark.spark.local_relation import local_relation

SCHEMA = "t string, n int, f float, m map<string,bigint>, l array<float>, b binary, at timestamp"


def test_rows_come_back_as_they_were(spark: SparkSession) -> None:
    at = datetime(2026, 2, 3, 4, 5, 6, 789, UTC)
    full = ("é", 1, 0.5, {"x": 2**40}, [0.25], b"\x00", at)
    found = local_relation(spark, [full, (None,) * 7], SCHEMA)
    assert [tuple(row) for row in found.drop("at").collect()] == [full[:-1], (None,) * 6]
    micros = [row["us"] for row in found.select(F.unix_micros("at").alias("us")).collect()]
    assert micros == [round(at.timestamp() * 1e6), None]
    assert found.schema.simpleString() == f"struct<{SCHEMA.replace(', ', ',').replace(' ', ':')}>"


def test_no_rows_and_rows_of_spark_are_rows(spark: SparkSession) -> None:
    assert local_relation(spark, [], SCHEMA).collect() == []
    assert local_relation(spark, [Row(a=1, b="x")], "a int, b string").collect() == [Row(a=1, b="x")]


def test_nothing_is_asked_of_executors(spark: SparkSession) -> None:
    plan = local_relation(spark, [(1,)], "a int")._jdf.queryExecution().toString()
    assert "LocalTableScan" in plan
    assert "ExistingRDD" not in plan


@pytest.mark.parametrize("row", [("x",), (1.5,), (2**31,)], ids=str)
def test_a_value_that_does_not_fit_is_said(spark: SparkSession, row: tuple[object]) -> None:
    with pytest.raises(pa.ArrowException):
        local_relation(spark, [row], "a int")

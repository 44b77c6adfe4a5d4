"""What is asked of executors is answered there."""

from __future__ import annotations

import pyarrow as pa
from pyspark.sql import SparkSession

from dedup_spark.spark.executors import _say, n_executors


def test_each_answer_is_a_row() -> None:
    (batch,) = _say([pa.RecordBatch.from_pydict({"i": [0]})], lambda: {"b", "a"})
    assert batch.to_pydict() == {"said": ["a", "b"]}


def test_no_answer_is_no_row() -> None:
    (batch,) = _say([pa.RecordBatch.from_pydict({"i": [0]})], frozenset)
    assert batch.schema == pa.schema({"said": pa.string()})
    assert len(batch) == 0


def test_the_driver_of_a_local_master_is_the_only_executor(spark: SparkSession) -> None:
    assert n_executors(spark) == 1

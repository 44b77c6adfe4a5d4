"""What is asked of executors is answered there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa
from pyspark.sql import SparkSession

from dedup_spark.spark.executors import _say, folder_of_attempt, n_executors


def test_each_answer_is_a_row() -> None:
    (batch,) = _say([pa.RecordBatch.from_pydict({"i": [0]})], lambda: {"b", "a"})
    assert batch.to_pydict() == {"said": ["a", "b"]}


def test_no_answer_is_no_row() -> None:
    (batch,) = _say([pa.RecordBatch.from_pydict({"i": [0]})], frozenset)
    assert batch.schema == pa.schema({"said": pa.string()})
    assert len(batch) == 0


def test_the_driver_of_a_local_master_is_the_only_executor(spark: SparkSession) -> None:
    assert n_executors(spark) == 1


def test_no_two_attempts_write_to_one_folder(spark: SparkSession) -> None:
    """Two runs of one lazy query are what two attempts of a stage are to its tasks."""

    def say(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        list(batches)
        yield pa.RecordBatch.from_pydict({"folder": [folder_of_attempt("below/here")]})

    tasks = spark.range(4, numPartitions=4).mapInArrow(say, "folder string")
    found = [row["folder"] for _ in range(2) for row in tasks.collect()]
    assert len(set(found)) == 8
    assert all(folder.startswith("below/here/") for folder in found)

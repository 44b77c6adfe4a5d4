"""Questions about what is installed where tasks run, which may not be what the driver has."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa
from pyspark.sql import SparkSession

from dedup_spark.spark.local_relation import local_relation


def ask_an_executor(spark: SparkSession, answer: Callable[[], Iterable[str]]) -> frozenset[str]:
    """What `answer` gives in one task; the nodes of a cluster are taken to be installed alike."""
    one = local_relation(spark, [(0,)], "i int").coalesce(1)
    said = one.mapInArrow(functools.partial(_say, answer=answer), "said string").collect()
    return frozenset(row["said"] for row in said)


def _say(batches: Iterable[pa.RecordBatch], answer: Callable[[], Iterable[str]]) -> Iterator[pa.RecordBatch]:
    for _ in batches:
        yield pa.RecordBatch.from_pydict({"said": pa.array(sorted(answer()), pa.string())})

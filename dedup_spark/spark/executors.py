"""Questions about where tasks run: how many executors there are, and what they have, which the driver may not have."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import SparkSession

from dedup_spark.spark.local_relation import local_relation


def n_executors(spark: SparkSession) -> int:
    """Executors that are there now; the driver of a local master is one."""
    context = spark.sparkContext
    n_block_managers = int(context._jsc.sc().getExecutorMemoryStatus().size())
    return max(1, n_block_managers - 1)  # the driver has one too


def ask_an_executor(spark: SparkSession, answer: Callable[[], Iterable[str]]) -> frozenset[str]:
    """What `answer` gives in one task; the nodes of a cluster are taken to be installed alike."""
    one = local_relation(spark, [(0,)], "i int").coalesce(1)
    said = one.mapInArrow(functools.partial(_say, answer=answer), "said string").collect()
    return frozenset(row["said"] for row in said)


def _say(batches: Iterable[pa.RecordBatch], answer: Callable[[], Iterable[str]]) -> Iterator[pa.RecordBatch]:
    for _ in batches:
        yield pa.RecordBatch.from_pydict({"said": pa.array(sorted(answer()), pa.string())})


def folder_of_attempt(folder: str) -> str:
    """A folder below `folder` that no other attempt of this or another task writes to.

    A task that is tried twice at once, by speculation or by a stage that is repeated while its first attempt still
    runs, writes the same rows twice; on another processor the last bits of floats differ. So that the checksum of the
    attempt that won is that of a file which the other one did not replace, each has a path of its own.
    """
    task = TaskContext.get()
    return f"{folder}/{task.taskAttemptId() if task else 0}"

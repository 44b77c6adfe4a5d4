"""Queries beside each other: in the session of the caller, ended with the block, and no error is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from dedup_spark.background import background


def test_work_has_the_job_group_of_the_caller_and_a_thread_of_its_own(spark: SparkSession) -> None:
    context = spark.sparkContext
    context.setJobGroup("mine", "told by the caller")
    with background(spark) as start:
        group = start(lambda: (context.getLocalProperty("spark.jobGroup.id"), threading.current_thread()))
        n = start(lambda: spark.range(10).count())
    assert group.result()[0] == "mine"
    assert group.result()[1] is not threading.current_thread()
    assert n.result() == 10
    assert not context.getJobTags()


def test_an_error_of_work_that_nobody_asked_for_is_raised_at_the_end(spark: SparkSession) -> None:
    done = []

    def fail() -> None:
        raise ValueError("in the background")

    def block() -> None:
        with background(spark) as start:
            start(fail)
            done.append(True)

    with pytest.raises(ValueError, match="in the background"):
        block()
    assert done


def test_where_the_block_fails_what_runs_beside_it_is_cancelled(spark: SparkSession) -> None:
    beside: list[Future[int]] = []

    def wait(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        time.sleep(120)
        yield from batches

    def block() -> None:
        with background(spark) as start:
            beside.append(start(lambda: spark.range(1).mapInArrow(wait, "id bigint").count()))
            until = time.monotonic() + 30
            while not spark.sparkContext.statusTracker().getActiveJobsIds() and time.monotonic() < until:
                time.sleep(0.05)
            raise KeyError("of the block")

    begin = time.monotonic()
    with pytest.raises(KeyError, match="of the block"):
        block()
    assert time.monotonic() - begin < 60
    with pytest.raises(Exception, match="cancelled"):
        beside[0].result()

"""Queries beside each other: in the session of the caller, ended with the block, and no error is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from dedup_spark.spark.background import background


def test_work_has_the_job_group_of_the_caller_and_a_thread_of_its_own(spark: SparkSession) -> None:
    context = spark.sparkContext
    context.setJobGroup("mine", "told by the caller")
    try:
        with background(spark) as start:
            group = start(lambda: (context.getLocalProperty("spark.jobGroup.id"), threading.current_thread()))
            n = start(lambda: spark.range(10).count())
    finally:
        for name in ("spark.jobGroup.id", "spark.job.description"):
            context.setLocalProperty(name, None)
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


def test_where_the_block_fails_what_runs_beside_it_is_cancelled_job_after_job(spark: SparkSession) -> None:
    """The block fails while the work beside it is between two jobs: the second is cancelled as well."""
    between, failed = threading.Event(), threading.Event()
    beside: list[Future[int]] = []

    def sleep(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        time.sleep(120)
        yield from batches

    def two_jobs() -> int:
        spark.range(1).count()
        between.set()
        failed.wait()
        return spark.range(1).mapInArrow(sleep, "id bigint").count()

    def block() -> None:
        with background(spark) as start:
            beside.append(start(two_jobs))
            between.wait()
            failed.set()
            raise KeyError("of the block")

    with pytest.raises(KeyError, match="of the block"):
        block()
    with pytest.raises(Exception, match="cancelled"):
        beside[0].result()


def test_the_first_error_is_raised_whatever_follows(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    released = threading.Event()

    def fail_late() -> None:
        released.wait()
        raise ValueError("the disk is gone")

    def cancel(tag: str) -> None:
        released.set()
        raise ConnectionError("the session is gone")

    def block() -> None:
        with background(spark) as start:
            start(fail_late)
            raise KeyError("of the block")

    monkeypatch.setattr(spark.sparkContext, "cancelJobsWithTag", cancel)
    with pytest.raises(KeyError, match="of the block"):
        block()
    assert "the session is gone" in caplog.text


def test_without_threads_of_the_jvm_work_is_done_when_it_is_started(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dedup_spark.spark.background.inheritable_thread_target", lambda session: session)
    with background(spark) as start:
        assert start(threading.current_thread).result() is threading.current_thread()

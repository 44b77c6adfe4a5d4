"""Queries of one step beside each other, where none needs the other's result.

A query of a small lake keeps the driver busy for longer than the executors: two side by side end sooner.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Protocol

from pyspark import inheritable_thread_target
from pyspark.sql import SparkSession

_MOST_AT_ONCE = 4


class Start(Protocol):
    """Starts work on a thread of its own, in the session and with the job group of the caller."""

    def __call__[T](self, work: Callable[[], T], /) -> Future[T]: ...


@contextmanager
def background(spark: SparkSession) -> Iterator[Start]:
    """Work started in the block has ended when the block has.

    What failed raises when it is asked for its result, or else at the end of the block. Where the block itself fails,
    the Spark jobs of work under way are cancelled, and its error is the one that is raised.
    """
    tag, started = f"dedup_spark-{secrets.token_hex(4)}", list[Future[Any]]()

    def start[T](work: Callable[[], T], /) -> Future[T]:
        def tagged() -> T:
            spark.sparkContext.addJobTag(tag)  # of this thread, which ends with the block
            return work()

        future = pool.submit(inheritable_thread_target(spark)(tagged))
        started.append(future)
        return future

    with ThreadPoolExecutor(_MOST_AT_ONCE, thread_name_prefix="background") as pool:
        try:
            yield start
        except BaseException:
            spark.sparkContext.cancelJobsWithTag(tag)
            raise
        for future in started:
            future.result()

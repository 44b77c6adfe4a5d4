"""Runs queries of one step at the same time where none needs the result of another.

A query of a small lake keeps the driver busy for longer than the executors, so two at the same time end sooner.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any, Protocol, cast

from pyspark import inheritable_thread_target
from pyspark.sql import SparkSession

log = logging.getLogger(__name__)

_MOST_AT_ONCE = 4
_SECONDS_BETWEEN_CANCELS = 0.5


class Start(Protocol):
    """Starts work on a thread of its own, in the session and the job group of the caller."""

    def __call__[T](self, work: Callable[[], T], /) -> Future[T]: ...


@contextmanager
def background(spark: SparkSession) -> Iterator[Start]:
    """Work started in the block has ended when the block ends.

    Work that failed raises when its result is asked for, or else at the end of the block. When anything fails, the rest
    is cancelled, job after job, and the first error is raised. Where Python's threads share one thread of the JVM
    (PYSPARK_PIN_THREAD=false), work is done at once when it is started.
    """
    tag, started = f"dedup_spark-{secrets.token_hex(4)}", list[Future[Any]]()
    has_threads = cast("object", inheritable_thread_target(spark)) is not spark  # else it comes back unchanged

    def start[T](work: Callable[[], T], /) -> Future[T]:
        def tagged() -> T:
            spark.sparkContext.addJobTag(tag)  # a tag of this thread, which ends with the block
            return work()

        if not has_threads:
            done = Future[T]()
            done.set_result(work())
            return done
        future = pool.submit(inheritable_thread_target(spark)(tagged))
        started.append(future)
        return future

    with ThreadPoolExecutor(_MOST_AT_ONCE, thread_name_prefix="background") as pool:
        try:
            yield start
            for future in started:
                future.result()
        except BaseException as e:
            _cancel(spark, tag, started, e)
            raise


def _cancel(spark: SparkSession, tag: str, started: list[Future[Any]], cause: BaseException) -> None:
    """End the work with this tag. It is cancelled again and again: work may be between two of its jobs."""
    for future in started:
        future.cancel()
    try:
        while wait(started, _SECONDS_BETWEEN_CANCELS).not_done:
            spark.sparkContext.cancelJobsWithTag(tag)
    except Exception as e:  # the session itself may have failed: this must not hide the first error
        log.warning("what ran beside the failed query could not be cancelled: %s", e)
    for future in started:
        failure = None if not future.done() or future.cancelled() else future.exception()
        if failure is not None and failure is not cause and "cancelled" not in str(failure):
            log.warning("beside the failed query another one failed: %s: %s", type(failure).__name__, failure)

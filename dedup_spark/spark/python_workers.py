"""What this package changes in the Python workers that Spark starts."""

from __future__ import annotations

import sys
import zipimport
from collections.abc import Iterator
from contextlib import contextmanager

from pyspark.sql import SparkSession

_OWNER = "DEDUP_SPARK_WORKERS"
"""A variable of workers that nothing reads: Spark reuses a worker only for functions with the same environment."""


def read_zips_once() -> None:
    """Keep the directories of zip files on the import path, in a worker on Python 3.12.

    PySpark calls `importlib.invalidate_caches()` before every task, and Python 3.12 then reads the directory of every
    zip file on the path again, entry by entry, in Python (cpython gh-103200; later ones read it at the next import).
    `spark.jars.packages` puts all jars on that path: with Delta's 40,000 entries each task took 0.4 s to begin. The
    files that a worker imports from do not change while it lives.
    """
    if "pyspark.worker" in sys.modules and sys.version_info < (3, 13):
        zipimport.zipimporter.invalidate_caches = _keep  # type: ignore[assignment, method-assign]


def _keep(_: zipimport.zipimporter) -> None:
    """Replaces `zipimporter.invalidate_caches` and does nothing."""


@contextmanager
def own_workers(spark: SparkSession, name: str) -> Iterator[None]:
    """Functions that are handed to Spark within the block run in Python workers that no other functions get.

    Those of before end by themselves, when they have been idle for a minute.
    """
    environment = spark.sparkContext.environment
    before = environment.get(_OWNER)
    environment[_OWNER] = name
    try:
        yield
    finally:
        if before is None:
            del environment[_OWNER]
        else:
            environment[_OWNER] = before

"""Workers keep what they read of zip files, from the first of our tasks on; other processes are left alone."""

from __future__ import annotations

import sys
import zipimport
from collections.abc import Iterable, Iterator

import pyarrow as pa
from pyspark.sql import SparkSession

from dedup_spark.spark import python_workers


def test_a_worker_does_not_read_the_jars_again_for_each_task(spark: SparkSession) -> None:
    def who_clears(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import dedup_spark  # noqa: F401 - as every task of ours does, by the function that it runs

        for _ in batches:
            yield pa.RecordBatch.from_pydict({"name": [zipimport.zipimporter.invalidate_caches.__qualname__]})

    found = {r["name"] for r in spark.range(0, 2, 1, 2).mapInArrow(who_clears, "name string").collect()}
    lazy = sys.version_info >= (3, 13)
    assert found == {"zipimporter.invalidate_caches" if lazy else python_workers._keep.__qualname__}


def test_a_process_that_is_no_worker_is_left_alone() -> None:
    python_workers.read_zips_once()
    assert zipimport.zipimporter.invalidate_caches is not python_workers._keep

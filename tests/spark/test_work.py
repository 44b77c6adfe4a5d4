"""What Spark did for a block, by its own books."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from py4j.protocol import Py4JError
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from dedup_spark.spark.work import Work


def test_tasks_bytes_and_time_of_the_stages_since_are_summed(spark: SparkSession) -> None:
    spark.range(10).repartition(3).count()
    work = Work(spark)
    assert work.done() == {}
    rows = spark.range(0, 2_000_000, numPartitions=8).groupBy((F.col("id") % 1000).alias("k")).agg(F.sum("id"))
    assert rows.count() == 1000
    done = work.done()
    assert done["stages"] >= 2
    assert done["tasks"] >= 8 + 2
    assert done["task_seconds"] > 0
    assert done["shuffled_bytes"] > 1000
    assert done["spilled_bytes"] == 0
    assert done.get("skew", 1.0) >= 1.0


@pytest.mark.parametrize("error", [Py4JError("no such method"), AttributeError("_jsc")])
def test_a_spark_that_does_not_tell_is_no_error(error: Exception) -> None:
    class Silent:
        def __getattr__(self, name: str) -> Any:
            raise error

    work = Work(SimpleNamespace(sparkContext=Silent()))  # type: ignore[arg-type]
    assert work.done() == {}

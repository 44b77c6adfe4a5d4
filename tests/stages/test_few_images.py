"""A few rows of a large table are read out of the files that hold them, and are the same rows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fabricated import features, frame, readable, rejected
from pyspark.sql import SparkSession

from dedup_spark.spark import needed_rows
from dedup_spark.spark.session import with_settings
from dedup_spark.stages import few_images
from dedup_spark.store.schema import FEATURES
from dedup_spark.store.tables import Tables


def read_of(tables: Tables, ids: list[int]) -> tuple[list[int], int]:
    """The images found, and how many data files were read for them at last."""
    wanted = frame(tables.spark, "image_id bigint", [{"image_id": i} for i in ids])
    with with_settings(tables.spark, {"spark.sql.adaptive.enabled": "false"}):  # so that the plan has its metrics
        rows = few_images.rows_of_few(tables.read(FEATURES), wanted)
        found = sorted(row["image_id"] for row in rows.collect())
        leaves = rows._jdf.queryExecution().executedPlan().collectLeaves()  # type: ignore[operator]
    scans = [leaves.apply(i) for i in range(leaves.size()) if "Scan parquet" in leaves.apply(i).nodeName()]
    return found, sum(scan.metrics().apply("numFiles").value() for scan in scans)


@pytest.fixture
def statistics(spark: SparkSession) -> Iterator[None]:
    """As Delta collects them by default; the session of the tests does without."""
    with with_settings(spark, {"spark.databricks.delta.stats.collect": "true"}):
        yield


@pytest.mark.usefixtures("statistics")
def test_only_the_files_of_the_images_are_read(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    for tens in range(4):
        own = [readable(10 * tens + i, reading_key=1000 * tens - 7 * i) for i in range(4)]
        tables.append(FEATURES, features(tables.spark, own).coalesce(1))
    tables.append(FEATURES, features(tables.spark, [readable(41), rejected(42)]).coalesce(1))  # of an older version
    assert read_of(tables, [3, 31, 99]) == ([3, 31], 5)  # a small table is read as it is
    monkeypatch.setattr(needed_rows, "_SMALL_BYTES", 0)
    assert read_of(tables, [3, 31, 99]) == ([3, 31], 2)
    assert read_of(tables, [10, 12]) == ([10, 12], 1)
    assert read_of(tables, [99]) == ([], 0)
    assert read_of(tables, [1, 41]) == ([1, 41], 5)  # nobody knows where 41 is
    monkeypatch.setattr(few_images, "_MOST_PLACES", 1)
    assert read_of(tables, [3, 31]) == ([3, 31], 5)

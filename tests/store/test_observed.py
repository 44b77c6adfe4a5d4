"""Aggregates seen while rows are written: those of a query over the rows, also where Spark says nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from pyspark import TaskContext
from pyspark.sql import functions as F

from dedup_spark.store import observed
from dedup_spark.store.observed import Observed, stage_with
from dedup_spark.store.tables import Tables


@pytest.mark.parametrize("how", ["observed", "not reported", "accelerated"])
@pytest.mark.parametrize("n", [0, 1000])
def test_staged_rows_come_with_their_aggregates(
    tables: Tables, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, n: int, how: str
) -> None:
    numbers = tables.spark.range(n).groupBy((F.col("id") % 7).alias("rest")).agg(F.sum("id").alias("total"))
    if how == "not reported":
        monkeypatch.setattr(Observed, "get", lambda _: None)
    elif how == "accelerated":
        monkeypatch.setattr(observed, "is_accelerated", lambda _: True)
        monkeypatch.setattr(type(numbers), "observe", lambda *_: pytest.fail("the accelerator fails on it"))
    staged, seen = stage_with(tables, "numbers", numbers, n=F.count("*"), most=F.max("total"))
    assert Path(tables.root, tables.staging, "numbers").is_dir()
    assert staged.count() == min(n, 7)
    assert ("counted by another query" in caplog.text) is (how == "not reported")
    assert seen == {"n": min(n, 7), "most": max((sum(range(r, n, 7)) for r in range(7)), default=0) if n else None}


def test_rows_that_nobody_writes_are_not_waited_for(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observed, "_SECONDS_TO_OBSERVE", 0.2)
    watching = Observed()
    watching.watch(tables.spark.range(3), n=F.count("*"))
    assert watching.get() is None


def test_what_a_task_wrote_before_it_failed_and_was_done_again_counts_once(tables: Tables) -> None:
    def fail_at_first(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield from batches
        context = TaskContext.get()
        if context is not None and context.attemptNumber() == 0:
            raise ValueError("after its rows")

    numbers = tables.spark.range(0, 3000, 1, 3).mapInArrow(fail_at_first, "id bigint")
    staged, seen = stage_with(tables, "numbers", numbers, n=F.count("*"), total=F.sum("id"))
    assert staged.count() == 3000
    assert seen == {"n": 3000, "total": sum(range(3000))}

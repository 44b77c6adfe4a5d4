"""Work items: which two shard files are joined, a row each, and how many tasks share them."""

from __future__ import annotations

import math

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dedup_spark.store.shards import ShardFiles

_MAX_TASKS = 20_000
"""Above this Spark's scheduler costs more than the finer grain gains; then a task takes several items in turn."""

FILES = ShardFiles._fields

_CORE_SECONDS_PER_TASK = 1.0  # with less, Spark's own 0.1 s per task with Python would be noticeable


def all_items(shard_rows: DataFrame, n_shards: int) -> DataFrame:
    """Every two of the shards 0 to n - 1 once, and each with itself: work items, as many for each shard.

    Item `a * steps + s` joins shard a with shard a + s, modulo n. `s` goes half way round, so that no pair of shards
    comes twice.
    """
    steps = n_shards // 2 + 1
    a, step = F.expr(f"cast(id div {steps} as int)"), F.expr(f"cast(id % {steps} as int)")
    items = _range(shard_rows, n_shards * steps).select(
        F.col("id").alias("item"), a.alias("a"), ((a + step) % n_shards).alias("b"), step.alias("step")
    )
    once = items.where(f"2 * step < {n_shards} OR 2 * a < {n_shards}")  # opposite shards would come twice
    return _with_files(once, shard_rows, shard_rows)


def items_of_queries(query_rows: DataFrame, n_files: int, shard_rows: DataFrame, n_shards: int) -> DataFrame:
    """Every file of queries with every shard."""
    a, b = F.expr(f"cast(id div {n_shards} as int)"), F.expr(f"cast(id % {n_shards} as int)")
    items = _range(shard_rows, n_files * n_shards).select(F.col("id").alias("item"), a.alias("a"), b.alias("b"))
    return _with_files(items, query_rows, shard_rows)


def one_task_per_shard(shard_rows: DataFrame, n_shards: int) -> DataFrame:
    """The rows of `shards` with a `shard` from 0, a task for each."""
    numbers = _range(shard_rows, n_shards).select(F.col("id").cast("int").alias("shard"))
    return numbers.join(F.broadcast(shard_rows.select("shard", *FILES)), "shard")


def n_tasks(n_items: int, core_seconds: float, parallelism: int) -> int:
    """How many tasks share the items: two for each core at least, then one per second of work."""
    return max(1, min(n_items, max(2 * parallelism, math.ceil(core_seconds / _CORE_SECONDS_PER_TASK))))


def _range(like: DataFrame, n_items: int) -> DataFrame:
    return like.sparkSession.range(0, n_items, 1, max(1, min(n_items, _MAX_TASKS)))


def _with_files(items: DataFrame, a_rows: DataFrame, b_rows: DataFrame) -> DataFrame:
    """item, a, b, and FILES of both with a_ and b_ before; the tables of files are small and go to every executor."""
    for side, rows in (("a", a_rows), ("b", b_rows)):
        named = [_file_column(rows, c).alias(f"{side}_{c}") for c in FILES]
        items = items.join(F.broadcast(rows.select(F.col("shard").alias(side), *named)), side)
    return items.select("item", "a", "b", *(f"{side}_{c}" for side in "ab" for c in FILES))


def _file_column(rows: DataFrame, name: str) -> Column:
    """Null where the rows have none: files of queries are of the type of every shard."""
    return F.col(name) if name in rows.columns else F.lit(None).cast("string")

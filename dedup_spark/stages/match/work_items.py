"""Work items: which two shard files are joined, a row each, in what order, and how many tasks share them.

Neighbours in the order share a shard: a stripe of STRIPE shards `a` is joined with one `b` after the other, so that a
task that keeps the stripe in memory reads, and sketches, one shard for STRIPE items.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dedup_spark.store.shards import ShardFiles

_MAX_TASKS = 20_000
"""Above this Spark's scheduler costs more than the finer grain gains; then a task takes several items in turn."""

FILES = ShardFiles._fields

STRIPE = 4
"""Shards `a` of a stripe. Simulated with 64 shards and eight tasks, shards read for each item: 0.29 where a task keeps
six or more in memory (1.00 in the order of one `a` after the other), 0.99 where it keeps two. With 8 a task must keep
ten."""

_CORE_SECONDS_PER_TASK = 1.0  # with less, Spark's own 0.1 s per task with Python would be noticeable
_ITEMS_PER_TASK = 2 * STRIPE
"""A task of fewer reads the stripe for few `b`."""
_TASKS_PER_SLOT = 8
"""With fewer, cores would wait for the last ones, which costs more than reading a stripe again."""


@dataclass(frozen=True)
class WorkItems:
    """Work items in order. Each has a number, and numbers rise along the order; some numbers have no item.

    Attributes:
        a_rows, b_rows: Rows of files, numbered by `shard` from 0 to `n_a` - 1 and `n_b` - 1; small tables, which go to
            every executor.
        is_self_join: Both are the same shards, and every two of them are joined once, and each with itself.
    """

    a_rows: DataFrame
    b_rows: DataFrame
    n_a: int
    n_b: int
    is_self_join: bool = False

    @classmethod
    def among(cls, shard_rows: DataFrame, n_shards: int) -> WorkItems:
        """Every two of the shards once, and each with itself.

        Shard `a` is joined with those up to half way round behind it, modulo n: each has as many items as another.
        """
        return cls(shard_rows, shard_rows, n_shards, n_shards, is_self_join=True)

    @property
    def n_items(self) -> int:
        return self.n_a * (self.n_a + 1) // 2 if self.is_self_join else self.n_a * self.n_b

    @property
    def n_numbers(self) -> int:
        """One more than the largest number there may be."""
        return -(-self.n_a // self._stripe) * self._n_columns * self._stripe

    def between(self, low: int, high: int) -> DataFrame:
        """The items with numbers from `low` to `high` - 1: item, a, b, and FILES of both with a_ and b_ before.

        Partitions hold neighbours, and hold them in order.
        """
        size, n_columns = self._stripe, self._n_columns
        numbers = self.a_rows.sparkSession.range(low, high, 1, max(1, min(high - low, _MAX_TASKS)))
        places = numbers.selectExpr(
            "id AS item",
            f"cast(id div {n_columns * size} AS int) AS stripe",
            f"cast(id div {size} % {n_columns} AS int) AS column",
            f"cast(id % {size} AS int) AS place",
        )
        # up and down in turns, so that the last item with one b and the first with the next have a in common
        in_turns = places.selectExpr("*", f"if(column % 2 = 0, place, {size - 1} - place) AS j")
        items = in_turns.selectExpr("item", f"stripe * {size} + j AS a", "column", "column - j AS step")
        items = items.where(f"a < {self.n_a}")
        pairs = self._once(items) if self.is_self_join else _with_b("column", items)
        return _with_files(pairs, self.a_rows, self.b_rows)

    def _once(self, items: DataFrame) -> DataFrame:
        """Of a self-join: column `c` of a stripe joins its shards with the `c`-th behind the first of them."""
        n = self.n_a
        items = items.where(f"step BETWEEN 0 AND {n // 2}")
        items = items.where(f"2 * step < {n} OR 2 * a < {n}")  # opposite shards would come twice
        return _with_b(f"(a + step) % {n}", items)

    @property
    def _stripe(self) -> int:
        return max(1, min(STRIPE, self.n_a))

    @property
    def _n_columns(self) -> int:
        return self.n_a // 2 + self._stripe if self.is_self_join else self.n_b


def one_task_per_shard(shard_rows: DataFrame, n_shards: int) -> DataFrame:
    """The rows of `shards` with a `shard` from 0, a task for each."""
    ids = shard_rows.sparkSession.range(0, n_shards, 1, max(1, min(n_shards, _MAX_TASKS)))
    numbers = ids.select(F.col("id").cast("int").alias("shard"))
    return numbers.join(F.broadcast(shard_rows.select("shard", *FILES)), "shard")


def n_tasks(n_items: int, core_seconds: float, slots: int) -> int:
    """How many tasks share the items, where `slots` run at the same time: two for each of those at least, then one per
    second of work, and no more than leave each _ITEMS_PER_TASK, unless cores would wait for the last."""
    wanted = min(math.ceil(core_seconds / _CORE_SECONDS_PER_TASK),
                 max(_TASKS_PER_SLOT * slots, n_items // _ITEMS_PER_TASK))  # fmt: skip
    return max(1, min(n_items, max(2 * slots, wanted)))


def _with_b(b: str, items: DataFrame) -> DataFrame:
    return items.selectExpr("item", "a", f"{b} AS b")


def _with_files(items: DataFrame, a_rows: DataFrame, b_rows: DataFrame) -> DataFrame:
    """item, a, b, and FILES of both with a_ and b_ before; sorts nothing."""
    for side, rows in (("a", a_rows), ("b", b_rows)):
        named = [_file_column(rows, c).alias(f"{side}_{c}") for c in FILES]
        items = items.join(F.broadcast(rows.select(F.col("shard").alias(side), *named)), side)
    return items.select("item", "a", "b", *(f"{side}_{c}" for side in "ab" for c in FILES))


def _file_column(rows: DataFrame, name: str) -> Column:
    """Null where the rows have none: files of queries are of the type of every shard."""
    return F.col(name) if name in rows.columns else F.lit(None).cast("string")

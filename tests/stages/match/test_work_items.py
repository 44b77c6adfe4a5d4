"""Which shard files are joined with which, in what order, and how many tasks share them."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from cachetools import LRUCache
from pyspark.sql import DataFrame, SparkSession

from dedup_spark.spark.local_relation import local_relation
from dedup_spark.stages.match.work_items import STRIPE, WorkItems, n_tasks

_FILES = "shard int, path string, sha256 string, index_path string, index_sha256 string"


def files(spark: SparkSession, n: int, kind: str = "shard") -> DataFrame:
    return local_relation(spark, [(i, f"{kind}-{i}", f"sha-{i}", None, None) for i in range(n)], _FILES)


def in_order(rows: DataFrame) -> list[tuple[int, int]]:
    """(a, b) in the order in which partitions hold them."""
    return [(row["a"], row["b"]) for row in rows.select("a", "b").collect()]


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6, 9, 16, 17])
def test_every_two_shards_are_joined_once_and_each_with_itself(spark: SparkSession, n: int) -> None:
    items = WorkItems.among(files(spark, n), n)
    found = in_order(items.between(0, items.n_numbers))
    every = itertools.combinations_with_replacement(range(n), 2)
    assert sorted((min(p), max(p)) for p in found) == sorted(every)
    assert len(found) == items.n_items
    of_each = Counter(shard for pair in found for shard in set(pair))
    assert set(of_each.values()) == {n}


@pytest.mark.parametrize(("n_a", "n_b"), [(1, 1), (1, 5), (3, 2), (6, 7)])
def test_every_file_of_queries_is_joined_with_every_shard(spark: SparkSession, n_a: int, n_b: int) -> None:
    items = WorkItems(files(spark, n_a, "queries"), files(spark, n_b), n_a, n_b)
    rows = items.between(0, items.n_numbers).collect()
    assert sorted((r["a"], r["b"]) for r in rows) == list(itertools.product(range(n_a), range(n_b)))
    assert len(rows) == items.n_items
    assert all((r["a_path"], r["b_path"]) == (f"queries-{r['a']}", f"shard-{r['b']}") for r in rows)


def test_the_parts_of_a_range_of_numbers_hold_each_item_once_under_the_same_number(spark: SparkSession) -> None:
    items = WorkItems.among(files(spark, 7), 7)
    whole = {tuple(row) for row in items.between(0, items.n_numbers).collect()}
    bounds = [0, 1, 2, 11, 30, items.n_numbers]
    parts = [tuple(row) for low, high in itertools.pairwise(bounds) for row in items.between(low, high).collect()]
    assert len(parts) == len(whole)
    assert set(parts) == whole
    assert items.between(5, 5).count() == 0


def shards_read(order: list[tuple[int, int]], n_tasks: int, n_kept: int) -> float:
    """For each item, where each task has a memory of its own of `n_kept` shards."""
    n_read, bounds = 0, [len(order) * task // n_tasks for task in range(n_tasks + 1)]
    for part in (order[low:high] for low, high in itertools.pairwise(bounds)):
        kept: LRUCache[int, int] = LRUCache(n_kept)
        for shard in itertools.chain.from_iterable(part):
            n_read += kept.get(shard) is None
            kept[shard] = shard + 1
    return n_read / len(order)


def test_a_task_reads_one_shard_for_the_items_of_a_stripe(spark: SparkSession) -> None:
    """The figures in the docstring of STRIPE; an order of one `a` after the other reads a shard for each item."""
    items = WorkItems.among(files(spark, 64), 64)
    order = in_order(items.between(0, items.n_numbers).coalesce(8))
    assert shards_read(order, 8, STRIPE + 2) < 0.3
    assert shards_read(order, 8, 2) < 1


@pytest.mark.parametrize(
    ("n_items", "core_seconds", "expected"),
    [
        (3, 100.0, 3),  # no task is without an item
        (1_000, 0.1, 4),  # two for each core at least
        (1_000, 7.5, 8),  # one per second
        (1_000, 1e6, 125),  # eight items for each
        (40, 1e6, 16),  # fewer, so that no core waits long
        (0, 0.0, 1),
    ],
)
def test_tasks_are_worth_their_start_and_cores_do_not_wait(n_items: int, core_seconds: float, expected: int) -> None:
    assert n_tasks(n_items, core_seconds, 2) == expected

"""Slices and tasks: they cover every image once, are bounded, and bring images of equal size together."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fabricated import images, listed
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dedup_spark.config import ExtractSettings
from dedup_spark.spark.local_relation import local_relation
from dedup_spark.stages.reading.slices import (
    broadcast_images,
    images_per_slice,
    in_slice,
    n_tasks,
    reading_key,
    slice_bounds,
    spread_addresses,
)


def lake_of(spark: SparkSession, n: int, **facts: Any) -> DataFrame:
    """`n` images with random ids; facts that are functions get the number of the image."""
    ids = np.random.default_rng(n).integers(-(2**63), 2**63 - 1, n)
    rows = [
        listed(int(image_id), **{k: v(i) if callable(v) else v for k, v in facts.items()})
        for i, image_id in enumerate(ids)
    ]
    return images(spark, rows)


@pytest.mark.parametrize(("n", "slice_images"), [(0, 10), (1, 10), (1000, 100), (300, 1)])
@pytest.mark.parametrize("size_bytes", [None, 100, lambda i: i // 3], ids=["no sizes", "one size", "copies"])
def test_slices_cover_every_key_once_and_are_bounded_also_where_all_sizes_are_equal(
    spark: SparkSession, n: int, slice_images: int, size_bytes: Any
) -> None:
    found = lake_of(spark, n, size_bytes=size_bytes).select(reading_key())
    bounds = slice_bounds(found, n, slice_images)
    if n == 0:
        assert bounds == []
        return
    assert bounds[0][0] == -(2**63)
    assert bounds[-1][1] == 2**63 - 1
    assert all(high + 1 == low for (_, high), (low, _) in itertools.pairwise(bounds))
    keys = [row["reading_key"] for row in found.collect()]
    assert max(sum(low <= key <= high for key in keys) for low, high in bounds) <= 2 * slice_images + 10


@pytest.mark.parametrize(
    ("asked", "cores", "found"), [(0, 2, 200_000), (0, 1_400, 2_800_000), (20_000, 1_400, 20_000), (7, 2, 7)]
)
def test_a_slice_keeps_every_core_busy_unless_its_size_is_set(asked: int, cores: int, found: int) -> None:
    spark = SimpleNamespace(sparkContext=SimpleNamespace(defaultParallelism=cores))
    assert images_per_slice(spark, ExtractSettings(slice_images=asked)) == found  # type: ignore[arg-type]


def test_a_task_with_several_cores_has_as_many_times_the_images(spark: SparkSession) -> None:
    lake = lake_of(spark, 600, size_bytes=lambda i: i)
    sizes = [len(rows) for rows in partitions(spread_addresses(lake, 50, 600, cores_per_task=2)).values()]
    assert sum(sizes) == 600
    assert len(sizes) == 6  # 600 / (50 x 2)
    assert max(sizes) <= 200


def partitions(rows: DataFrame) -> dict[int, list[Any]]:
    by_partition = defaultdict(list)
    for row in rows.withColumn("partition", F.spark_partition_id()).collect():
        by_partition[row["partition"]].append(row)
    return by_partition


def test_copies_are_in_one_task_and_tasks_are_bounded(spark: SparkSession) -> None:
    n, task_images = 600, 50
    found = partitions(spread_addresses(lake_of(spark, n, size_bytes=lambda i: i // 4), task_images, n))
    assert sum(map(len, found.values())) == n
    assert max(map(len, found.values())) <= 2 * task_images
    places = defaultdict(set)
    for partition, rows in found.items():
        for row in rows:
            places[row["size_bytes"]].add(partition)
    n_split = sum(len(at) - 1 for at in places.values())
    assert n_split < len(found)  # each border between two tasks splits the images of one size at most


def test_a_size_that_all_files_share_makes_no_giant_task(spark: SparkSession) -> None:
    found = partitions(spread_addresses(lake_of(spark, 600, size_bytes=36_000_054), 50, 600))
    assert max(map(len, found.values())) <= 100


GB, MB = 10**9, 10**6


def test_files_of_one_large_size_are_shared_out_among_tasks_of_few(spark: SparkSession) -> None:
    """Scans of 200 MB and raw pictures of 42 MB among small photos: no task reads a hundred times what others do."""
    n, task_images = 900, 100
    found = partitions(
        spread_addresses(
            lake_of(spark, n, size_bytes=lambda i: 200 * MB if i < 60 else 42 * MB if i < 160 else i * 1000),
            task_images,
            n,
        )
    )
    rows = [row for inside in found.values() for row in inside]
    assert len({row["image_id"] for row in rows}) == len(rows) == n
    by_bytes = {partition: sum(row["size_bytes"] for row in inside) for partition, inside in found.items()}
    assert max(by_bytes.values()) < 2.5 * GB  # 60 scans of one size were 12 GB in one task
    assert max(map(len, found.values())) <= 2 * task_images
    kinds = [{row["size_bytes"] // (20 * MB) for row in found[partition]} for partition in sorted(found)]
    assert all(len(kind) == 1 for kind in kinds)
    assert [max(kind) for kind in kinds] == sorted((max(kind) for kind in kinds), reverse=True)  # the longest first


def test_no_image_is_lost_where_there_are_more_than_was_said(spark: SparkSession) -> None:
    found = partitions(spread_addresses(lake_of(spark, 60, size_bytes=lambda i: 1 if i < 20 else 50 * MB), 10, 30))
    assert sum(map(len, found.values())) == 60


def test_large_members_of_a_container_stay_together(spark: SparkSession) -> None:
    rows = [
        listed(
            (5 << 40) + i, uri="file:///5.tar", member=f"{i:03d}.tif", position=i, size_bytes=(1 + 199 * (i % 2)) * MB
        )
        for i in range(40)
    ]
    found = partitions(spread_addresses(images(spark, rows), 10, len(rows)))
    assert [len(inside) for inside in found.values()] == [40]


@pytest.mark.parametrize(
    ("n", "size_class", "expected"),
    [(0, 0, 4), (1, 0, 4), (10_001, 0, 21), (1, 1, 1), (3, 2, 3), (62, 1, 4), (630, 1, 11), (1000, 2, 143)],
)
def test_tasks_of_large_files_hold_fewer(n: int, size_class: int, expected: int) -> None:
    assert n_tasks(n, 500, 4, size_class) == expected


def test_a_task_has_one_image_at_least() -> None:
    assert n_tasks(30, 3, 4, 2) == 30


def test_a_container_is_read_by_one_task_in_the_order_of_its_members(spark: SparkSession) -> None:
    """Members have ids that share their high bits; one size or many sizes, they stay together."""
    rows = [
        listed((container << 40) + i * 7919, uri=f"file:///{container}.tar", member=f"{i:03d}.jpg", position=512 * i,
               size_bytes=i % 5)
        for container, i in itertools.product((-3, 5, 9), range(120))
    ]  # fmt: skip
    found = partitions(spread_addresses(images(spark, rows), 50, len(rows)))
    at = Counter((row["uri"], partition) for partition, inside in found.items() for row in inside)
    assert sorted(at.values()) == [120] * 3
    for inside in found.values():
        assert [(r["uri"], r["position"]) for r in inside] == sorted((r["uri"], r["position"]) for r in inside)


@pytest.mark.parametrize(("n_dimensions", "n_images"), [(8, 250_000), (512, 250_000), (2048, 100_000), (8192, 25_000)])
def test_a_slice_has_no_more_vectors_than_can_be_broadcast(n_dimensions: int, n_images: int) -> None:
    assert broadcast_images(250_000, n_dimensions) == n_images
    assert broadcast_images(5, n_dimensions) == 5


def test_rows_without_reading_key_are_in_the_slice_of_their_id(spark: SparkSession) -> None:
    rows = [(1, 50), (2, None), (50, None), (50, 1), (99, 60), (61, None)]
    found = local_relation(spark, rows, "image_id bigint, reading_key bigint").where(in_slice(50, 60))
    assert {tuple(row) for row in found.collect()} == {(1, 50), (50, None), (99, 60)}

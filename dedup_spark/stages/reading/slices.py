"""The order in which images are read: what slices and tasks are cut from, so that byte copies meet in one task.

Copies have equal sizes, and a listing knows sizes before anything is read. So files are ordered by a hash of their
size, and those of one size by their ids. A slice is a range of this order, and so is a task. Byte copies are neighbours
then: a task decodes and embeds them once. That costs nothing but the addresses, which are shuffled in any case. However
many files have one size (scans, raw pictures of one camera), a range ends where it is full. A task of large files has
fewer of them: 500 scans of one size would be a hundred gigabytes for one task, where others read some hundred
megabytes. The members of a container stay together, so that one task reads it.
"""

from __future__ import annotations

import functools
import operator

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from dedup_spark.config import ExtractSettings
from dedup_spark.sources.base import ADDRESS_COLUMNS

_LOW_BITS = 40  # image_ids of one container share all higher bits: see stages/inventory/step.py
_MIN_KEY, _MAX_KEY = -(1 << 63), (1 << 63) - 1
_USUAL_DIMENSIONS = 512
_MAX_BROADCAST_NUMBERS = 400_000 * _USUAL_DIMENSIONS  # in float16
_LARGE_BYTES = (16 << 20, 128 << 20)
"""From each of these sizes on a task has an eighth of the images: tasks of 500 then read about 8 GB at most."""
_FEWER = 8
_LEAST_IN_SLICE, _IN_SLICE_PER_CORE = 200_000, 2_000
_IS_IN_CONTAINER = "member IS NOT NULL OR position IS NOT NULL"


def reading_key() -> Column:
    """The column of this name in features, from columns of images: the place of an image in the order.

    24 bits from the size, or from the id where the listing has no size, and 40 bits from the id; the members of a
    container have one key.
    """
    low = F.lit((1 << _LOW_BITS) - 1)
    by_id, own_bits = F.col("image_id"), F.col("image_id").bitwiseAND(low)
    by_size = F.when(F.col("size_bytes").isNotNull(), F.xxhash64("size_bytes")).otherwise(by_id)
    is_member = F.expr(_IS_IN_CONTAINER)
    high = F.when(is_member, by_id).otherwise(by_size).bitwiseAND(F.bitwise_not(low))
    return high.bitwiseOR(F.when(is_member, F.lit(0)).otherwise(own_bits)).alias("reading_key")


def images_per_slice(spark: SparkSession, extract: ExtractSettings) -> int:
    """By extract.slice_images; 0: 200,000, or 2,000 for each core where that is more.

    2,000 images keep a core busy for some two minutes. Between two slices cores wait for the last task of one, and then
    for its commit: on 1,400 cores a slice of 200,000 would take less time than that.
    """
    return extract.slice_images or max(_LEAST_IN_SLICE, _IN_SLICE_PER_CORE * spark.sparkContext.defaultParallelism)


def slice_bounds(keys: DataFrame, n_images: int, slice_images: int) -> list[tuple[int, int]]:
    """Ranges of `reading_key` (both ends included) that cover all keys; each holds about `slice_images` of `keys`."""
    if n_images == 0:
        return []
    n_slices = -(-n_images // slice_images)
    shares = [i / n_slices for i in range(1, n_slices)]
    quantiles = keys.agg(F.percentile_approx("reading_key", shares).alias("cuts")).first() if shares else None
    starts = sorted({_MIN_KEY, *(quantiles["cuts"] if quantiles else ())})
    return list(zip(starts, [start - 1 for start in starts[1:]] + [_MAX_KEY], strict=True))


def in_slice(low: int, high: int, of: str = "") -> str:
    """SQL for rows of features in a slice, so that Delta skips the files of other slices; `of`: an alias and a dot.

    A row of an older version without reading_key has its image_id instead.
    """
    there = f"BETWEEN {low} AND {high}"
    return f"({of}reading_key {there} OR ({of}reading_key IS NULL AND {of}image_id {there}))"


def broadcast_images(slice_images: int, n_dimensions: int = _USUAL_DIMENSIONS) -> int:
    """Images per slice so that its vectors can be broadcast: at most 400 MB, below spark.driver.maxResultSize.

    A slice with a large container may have more: whoever broadcasts asks whether they are at most `most_broadcast`.
    """
    return min(slice_images, most_broadcast(n_dimensions))


def most_broadcast(n_dimensions: int = _USUAL_DIMENSIONS) -> int:
    """Images whose vectors may be broadcast: they are 400 MB."""
    return max(1, _MAX_BROADCAST_NUMBERS // n_dimensions)


def spread_addresses(images: DataFrame, task_images: int, n_images: int, cores_per_task: int = 1) -> DataFrame:
    """The address of each of about `n_images` and its `reading_key`, about `task_images` for each core of a task per
    partition, fewer if large. So a task that holds a GPU and 14 cores lasts as long as one of a core, and fills the
    batches of its model.

    A partition is a range of keys, of files of one class of size; the largest come first, as they take longest. Within
    it images come in the order that stores read fastest. Only addresses are shuffled, with the `embedding` of each
    where `images` has one. One pass over `images` counts the large ones here; to find the ranges Spark samples the
    addresses of each class that occurs, in one more pass for each.
    """
    beside = [name for name in images.columns if name == "embedding"]
    address = images.select("image_id", "object_version", *ADDRESS_COLUMNS, reading_key(), *beside)
    parallelism = max(1, images.sparkSession.sparkContext.defaultParallelism // cores_per_task)
    task_images, n_large = task_images * cores_per_task, _count_large(images)
    if not any(n_large):
        return _in_ranges(address, n_tasks(n_images, task_images, parallelism))
    n_of_class = [max(0, n_images - sum(n_large)), *n_large]
    parts = [
        _in_ranges(address.where(_size_class() == i), n_tasks(n, task_images, parallelism, i))
        for i, n in reversed(list(enumerate(n_of_class)))
        if n or i == 0  # there may be more ordinary ones than `n_images` says, which is about right
    ]
    return functools.reduce(DataFrame.unionByName, parts)


def n_tasks(n_images: int, task_images: int, parallelism: int, size_class: int = 0) -> int:
    """Tasks for so many images of one class of size, 0 ordinary, 1 and 2 large; at least `parallelism`, which is how
    many run at once."""
    least = parallelism if size_class == 0 else min(parallelism, n_images)
    return max(least, -(-n_images // max(1, task_images // _FEWER**size_class)))


def _size_class() -> Column:
    """How many of _LARGE_BYTES a file reaches; 0 where the size is not known, and inside a container, which one task
    reads."""
    reached = [F.coalesce(F.col("size_bytes") >= n, F.lit(False)).cast("int") for n in _LARGE_BYTES]
    return F.when(F.expr(_IS_IN_CONTAINER), 0).otherwise(functools.reduce(operator.add, reached))


def _count_large(images: DataFrame) -> list[int]:
    """The number of files of each class of size but the first."""
    classes = range(1, len(_LARGE_BYTES) + 1)
    row = images.agg(*(F.count_if(_size_class() == i).alias(f"n{i}") for i in classes)).first()
    return [row[f"n{i}"] for i in classes] if row else []


def _in_ranges(address: DataFrame, n_ranges: int) -> DataFrame:
    spread = address.repartitionByRange(n_ranges, "reading_key")
    return spread.sortWithinPartitions(F.coalesce("location", "uri"), "position", "member")

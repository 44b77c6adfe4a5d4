"""The order in which images are read: what slices and tasks are cut from, so that byte copies meet in one task.

Copies have equal sizes, and a listing knows sizes before anything is read. So files are ordered by a hash of their
size, and those of one size by their ids. A slice is a range of this order, and so is a task. Byte copies are neighbours
then: a task decodes and embeds them once. That costs nothing but the addresses, which are shuffled in any case. However
many files have one size (scans, raw pictures of one camera), a range ends where it is full. The members of a container
stay together, so that one task reads it.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dedup_spark.sources.base import ADDRESS_COLUMNS

_LOW_BITS = 40  # image_ids of one container share all higher bits: see stages/inventory/step.py
_MIN_KEY, _MAX_KEY = -(1 << 63), (1 << 63) - 1
_USUAL_DIMENSIONS = 512
_MAX_BROADCAST_NUMBERS = 400_000 * _USUAL_DIMENSIONS  # in float16
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


def slice_bounds(keys: DataFrame, n_images: int, slice_images: int) -> list[tuple[int, int]]:
    """Ranges of `reading_key` (both ends included) that cover all keys; each holds about `slice_images` of `keys`."""
    if n_images == 0:
        return []
    n_slices = -(-n_images // slice_images)
    shares = [i / n_slices for i in range(1, n_slices)]
    quantiles = keys.agg(F.percentile_approx("reading_key", shares).alias("cuts")).first() if shares else None
    starts = sorted({_MIN_KEY, *(quantiles["cuts"] if quantiles else ())})
    return list(zip(starts, [start - 1 for start in starts[1:]] + [_MAX_KEY], strict=True))


def in_slice(low: int, high: int, of: str = "") -> Column:
    """Rows of features in a slice, written so that Delta skips the files of other slices; `of`: an alias and a dot.

    A row of an older version without reading_key has its image_id instead.
    """
    key, image_id = F.col(f"{of}reading_key"), F.col(f"{of}image_id")
    return key.between(low, high) | (key.isNull() & image_id.between(low, high))


def broadcast_images(slice_images: int, n_dimensions: int = _USUAL_DIMENSIONS) -> int:
    """Images per slice whose vectors are broadcast: at most 400 MB, below spark.driver.maxResultSize."""
    return min(slice_images, max(1, _MAX_BROADCAST_NUMBERS // n_dimensions))


def spread_addresses(images: DataFrame, task_images: int, n_images: int) -> DataFrame:
    """The address of each image and its `reading_key`, about `task_images` per partition.

    A partition is a range of keys; within it images come in the order that stores read fastest. Only addresses are
    shuffled, with the `embedding` of each where `images` has one; to find the ranges Spark samples them first, in one
    more pass over `images`.
    """
    n_tasks = max(images.sparkSession.sparkContext.defaultParallelism, -(-n_images // task_images))
    beside = [name for name in images.columns if name == "embedding"]
    address = images.select("image_id", "object_version", *ADDRESS_COLUMNS, reading_key(), *beside)
    spread = address.repartitionByRange(n_tasks, "reading_key")
    return spread.sortWithinPartitions(F.coalesce("location", "uri"), "position", "member")

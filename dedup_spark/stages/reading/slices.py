"""Ranges of image_id that cut long work into pieces of about equal size."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dedup_spark.sources.base import ADDRESS_COLUMNS

_CONTAINER_SPAN = 1 << 40  # image_ids of one container share all higher bits: see stages/inventory/step.py
_MIN_ID, _MAX_ID = -(1 << 63), (1 << 63) - 1


def slice_bounds(pending: DataFrame, n_pending: int, slice_images: int) -> list[tuple[int, int]]:
    """Ranges of image_id (both ends included) that cover all ids; each holds about `slice_images` pending images."""
    if n_pending == 0:
        return []
    n_slices = -(-n_pending // slice_images)
    shares = [i / n_slices for i in range(1, n_slices)]
    quantiles = pending.agg(F.percentile_approx("image_id", shares).alias("cuts")).first() if shares else None
    cuts = {cut // _CONTAINER_SPAN * _CONTAINER_SPAN for cut in quantiles["cuts"]} if quantiles else set()
    starts = sorted({_MIN_ID, *cuts})  # at multiples of the span, so that containers stay whole
    return list(zip(starts, [start - 1 for start in starts[1:]] + [_MAX_ID], strict=True))


def spread_addresses(images: DataFrame, task_images: int, n_images: int) -> DataFrame:
    """The address of each image, about `task_images` per partition, in the order that stores read fastest.

    One container is read by one task. Only addresses are shuffled, with the `embedding` of each where `images` has one.
    """
    n_tasks = max(images.sparkSession.sparkContext.defaultParallelism, -(-n_images // task_images))
    beside = [name for name in images.columns if name == "embedding"]
    address = images.select("image_id", "object_version", *ADDRESS_COLUMNS, *beside)
    spread = address.repartition(n_tasks, F.shiftright("image_id", 40))
    return spread.sortWithinPartitions(F.coalesce("location", "uri"), "position", "member")

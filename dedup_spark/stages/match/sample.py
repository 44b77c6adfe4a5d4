"""The sample of representatives that the survey compares with everything: how large it is, and which are in it."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dedup_spark.kernels.arrays import Float16, Int64
from dedup_spark.kernels.vectors import from_bytes
from dedup_spark.spark.draw import seeded_place


def sample_size(n: int, wanted: int) -> int:
    """So many that comparing them is at most 1 % of comparing every two, but at least 200 images, or all."""
    return min(n, wanted, max(200, n // 200))


def may_be_drawn(n: int, n_wanted: int, seed: int) -> Column:
    """For each of `n` rows, whether the sample may hold it: true for somewhat more than `n_wanted` rows."""
    return seeded_place(seed) < (1.5 * n_wanted + 20) / n if n_wanted < n else F.lit(n_wanted > 0)


def draw(drawable: DataFrame, n_wanted: int, seed: int) -> tuple[Int64, Float16]:
    """Ids (q,) and vectors (q, d) of a sample, sorted by id; 1 KB per image comes to the driver.

    Which rows of (image_id, embedding) are drawn depends on id and seed alone, not on order or partitions.
    """
    rows = drawable.orderBy(seeded_place(seed), "image_id").limit(n_wanted).toArrow().sort_by("image_id")
    return rows["image_id"].to_numpy(), from_bytes(rows["embedding"].to_pylist())

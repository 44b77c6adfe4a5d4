"""Identical images stand as one while matching: the representative is the smallest image_id of equal pixels.

Shared by index, match and cluster, so that the three agree. A million copies of a placeholder cost one row.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F


def with_representative(features: DataFrame) -> DataFrame:
    """Readable rows of features: image_id, hashes, model_id and `representative_id`. Two shuffles by pixel_hash."""
    readable = _readable(features)
    return readable.join(_first_of_each(readable), "pixel_hash").select(*readable.columns, "representative_id")


def copies(features: DataFrame) -> DataFrame:
    """Readable rows that are not their own representative: image_id, hashes, model_id, `representative_id` and
    `first_content_hash`, that of the representative. Two shuffles by pixel_hash, 150 bytes an image."""
    readable = _readable(features)
    content = F.min_by("content_hash", "image_id").alias("first_content_hash")
    several = _first_of_each(readable, content, F.count("*").alias("n_equal")).where("n_equal > 1")
    return readable.join(several, "pixel_hash").where("image_id <> representative_id").drop("n_equal")


def representatives(features: DataFrame) -> DataFrame:
    """The rows of features that are representatives, all columns."""
    first = _first_of_each(features.where("status = 'ok'")).select(F.col("representative_id").alias("image_id"))
    return features.join(first, "image_id", "left_semi")


def _readable(features: DataFrame) -> DataFrame:
    return features.where("status = 'ok'").select("image_id", "content_hash", "pixel_hash", "model_id")


def _first_of_each(rows: DataFrame, *more: Column) -> DataFrame:
    """(pixel_hash, representative_id) and further aggregates."""
    return rows.groupBy("pixel_hash").agg(F.min("image_id").alias("representative_id"), *more)

"""Identical images stand as one while matching: the representative is the smallest image_id of equal pixels.

Shared by index, match and cluster, so that the three agree. A million copies of a placeholder cost one row.
"""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F


def with_representative(features: DataFrame) -> DataFrame:
    """Readable rows of features: image_id, hashes, model_id and `representative_id`. One shuffle by pixel_hash."""
    readable = features.where("status = 'ok'").select("image_id", "content_hash", "pixel_hash", "model_id")
    first = readable.groupBy("pixel_hash").agg(F.min("image_id").alias("representative_id"))
    return readable.join(first, "pixel_hash").select(*readable.columns, "representative_id")


def representatives(features: DataFrame) -> DataFrame:
    """The rows of features that are representatives, all columns."""
    first = features.where("status = 'ok'").groupBy("pixel_hash").agg(F.min("image_id").alias("image_id"))
    return features.join(first.select("image_id"), "image_id", "left_semi")

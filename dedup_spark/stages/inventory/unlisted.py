"""Images whose folder or container could not be listed: they are not taken for gone. Part of the step inventory.

Their rows stay as they are, with the time since when nobody knows whether the object is there: nothing is removable
that such an image stands for. The next listing that finds the object takes the mark away; one that lists the folder and
lacks the object buries it as any other.
"""

from __future__ import annotations

from datetime import datetime

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dedup_spark.sources.passed_over import UNLISTED
from dedup_spark.store.schema import IMAGES
from dedup_spark.store.tables import Tables


def unlisted_places(entries: DataFrame) -> DataFrame:
    """(place): the addresses of folders and containers of which the listing does not know what is in them."""
    return entries.where(F.col("passed_over").isin(*UNLISTED)).select(F.col("uri").alias("place")).distinct()


def below(missing: DataFrame, places: DataFrame) -> DataFrame:
    """(image_id) of the rows of `missing` (image_id, uri) that lie at or below one of `places`.

    Each address is joined by the folders above it, so that the cost does not grow with the product of the two: one
    shuffle of `missing` times its depth, and none where the places are few enough to be broadcast.
    """
    parts = F.split("uri", "/")
    above = F.transform(F.sequence(F.lit(1), F.size(parts)), lambda n: F.array_join(F.slice(parts, 1, n), "/"))
    return missing.select("image_id", F.explode(above).alias("place")).join(places, "place", "left_semi").select(
        "image_id"
    ).distinct()  # fmt: skip


def mark(tables: Tables, images: DataFrame, at: datetime) -> None:
    """Set `images.unlisted_since` to `at` for the ids in `images` (staged); a row that has an earlier time keeps it."""
    rows = images.select("image_id", F.lit(at).cast("timestamp").alias("unlisted_since"))
    tables.update(IMAGES, rows, where="old.unlisted_since IS NULL")

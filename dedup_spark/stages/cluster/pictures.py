"""What the step compares of images inside components: read out of `features` once. Part of the step cluster.

Keepers, relations and stand-ins ask for thumbnails and vectors of the same images, one after the other, and leaders
before them. A scan of `features` for the thumbnails of some of its images reads those of all, a terabyte at 100 million
images, as Parquet has them in pages of rows from everywhere. So the first who asks leaves what all of them need in a
file of its own.
"""

from __future__ import annotations

from pyspark.sql import DataFrame

from dedup_spark.spark.needed_rows import is_large, only_needed
from dedup_spark.stages.cluster.relations import FACTS
from dedup_spark.store.tables import Tables

SIGNATURE = ("image_id", "phash", "embedding")
"""Columns by which pairs are scored."""
COLUMNS = (*SIGNATURE, "pixel_hash", *FACTS.names, "thumbnail")


def pictures_of(images: DataFrame, features: DataFrame, tables: Tables) -> DataFrame:
    """COLUMNS of the rows of `features` whose image_id is one of `images` (staged), and of some others (only_needed).

    Staged where `features` is large: one scan of these columns, and about 11 KB written for each image; nothing is
    shuffled. All rows of `features` where it is small.
    """
    seen = features.select(*COLUMNS)
    return tables.stage("pictures", only_needed(seen, images.select("image_id"))) if is_large(seen) else seen

"""Reads the rows of features of a few images, without the wide columns of all others.

A join of `features` with a few hundred ids reads the thumbnails of the whole lake to find those: a terabyte at 100
million images, each night for one page. Files and row groups hold neighbours in the order of reading, and Delta and
Parquet know the smallest and the largest `reading_key` of each. So the places of the images are asked for first, by two
narrow columns, and then the row groups around these places alone are read.
"""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dedup_spark.spark.needed_rows import is_large

_MOST_PLACES = 1_000
"""Of more places the condition takes longer to plan than the rest of the query; a thousand row groups are 16 GB."""


def rows_of_few(features: DataFrame, ids: DataFrame) -> DataFrame:
    """The rows of `features` whose image_id is one of `ids` (image_id, some thousands at most: they are broadcast).

    Of a large table, and up to `_MOST_PLACES` images, a query of 16 bytes for each of its rows tells first where they
    are, and only what lies around is read. A row of an older version, without a place, is found by a scan.
    """
    few = F.broadcast(ids)
    if is_large(features):
        found = features.select("image_id", "reading_key").join(few, "image_id").limit(_MOST_PLACES + 1).collect()
        places = {row["reading_key"] for row in found}
        if len(found) <= _MOST_PLACES and None not in places:
            features = features.where(_is_at(places))
    return features.join(few, "image_id")


def _is_at(places: set[int]) -> str:
    """SQL. Of `IN` Delta and Parquet take the smallest and the largest value only, and between them lies everything."""
    return " OR ".join(f"reading_key = {place}" for place in sorted(places)) or "false"

"""Bounds on the number of byte copies in the whole lake, from the listing alone: no image is read."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dedup_spark.stages.extract.etags import SAME_ETAG, with_bucket


@dataclass(frozen=True)
class ListingFacts:
    """Files with equal bytes have equal sizes; objects of an S3 bucket with equal size and MD5 have equal bytes.

    Attributes:
        n_images: Images listed.
        n_bytes: Their size; one of unknown size counts as the mean of the others.
        most_pairs: Pairs of equal size: no more can have equal bytes. None where a size is unknown.
        most_images: Images that share their size with another. None where a size is unknown.
        least_pairs: Pairs of one S3 bucket with equal size and ETag, where that is an MD5 by its form.
        least_images: Images that share both with another.
    """

    n_images: int
    n_bytes: int
    most_pairs: int | None
    most_images: int | None
    least_pairs: int
    least_images: int


def listing_facts(images: DataFrame) -> ListingFacts:
    """Counts equal sizes and equal ETags, with a shuffle for each; a few numbers reach the driver."""
    totals = images.agg(
        F.count("*").alias("n"), F.count("size_bytes").alias("n_sized"), F.avg("size_bytes").alias("mean_bytes")
    ).collect()[0]
    of_size = _shared(images.where("size_bytes IS NOT NULL"), "size_bytes")
    of_etag = _shared(with_bucket(images), *SAME_ETAG)
    known = totals["n_sized"] == totals["n"]
    return ListingFacts(
        n_images=totals["n"],
        n_bytes=round(totals["n"] * (totals["mean_bytes"] or 0)),
        most_pairs=of_size[0] if known else None,
        most_images=of_size[1] if known else None,
        least_pairs=of_etag[0],
        least_images=of_etag[1],
    )


def _shared(images: DataFrame, *columns: str) -> tuple[int, int]:
    """The number of pairs of rows with equal columns, and of rows that are in such a pair."""
    groups = images.groupBy(*columns).agg(F.count("*").alias("n_equal")).where("n_equal > 1")
    pairs = F.expr("n_equal * (n_equal - 1) div 2")
    row = groups.agg(F.sum(pairs).alias("pairs"), F.sum("n_equal").alias("images")).collect()[0]
    return row["pairs"] or 0, row["images"] or 0

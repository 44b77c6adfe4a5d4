"""Which objects have equal bytes according to the listing: those of one S3 bucket with equal size and MD5.

In S3 the ETag of an object that was written in one piece is the MD5 of its bytes, and for others the MD5 of the MD5s of
the parts, with their number. That does not hold for objects encrypted by SSE-KMS or SSE-C, nor for every store that
speaks S3. Elsewhere an ETag is a version token (Azure), or made of a time and a size. So a few objects of each bucket
are read to prove that its ETags are MD5 sums.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from pyspark.sql import Column, DataFrame, Row, Window
from pyspark.sql import functions as F

from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.sources.base import ADDRESS_COLUMNS, Address, Source
from dedup_spark.sources.fetching import fetch_patiently
from dedup_spark.stages.reading.read_ahead import UNAVAILABLE
from dedup_spark.stages.reading.slices import reading_key
from dedup_spark.vocabulary import FeatureStatus, RejectReason

log = logging.getLogger(__name__)

MD5_ETAG = (
    "uri RLIKE '^s3[an]?://' AND member IS NULL AND location IS NULL AND position IS NULL AND size_bytes IS NOT NULL "
    "AND etag RLIKE '^[0-9a-fA-F]{32}(-[1-9][0-9]{0,4})?$'"
)
"""Condition of images whose listing may prove that they are identical to others; null counts as no."""

SAME_ETAG = ("bucket", "size_bytes", "etag")
"""Columns of `with_bucket` that are equal for equal bytes, in a bucket whose ETags are MD5 sums."""

_ABOUT_CONTENT = (
    FeatureStatus.OK, RejectReason.EMPTY, RejectReason.NOT_AN_IMAGE, RejectReason.UNSUPPORTED_FORMAT,
    RejectReason.TRUNCATED, RejectReason.CORRUPT, RejectReason.TOO_MANY_PIXELS, RejectReason.TOO_SMALL,
)  # fmt: skip
"""Outcomes that depend only on the bytes; the other reasons concern one object."""
_SINGLE_PART = "NOT contains(etag, '-')"
_MOST_BUCKETS = 100
_OBJECTS_PER_BUCKET, _CANDIDATES_PER_BUCKET = 3, 8  # some may be gone since they were listed
_MOST_BYTES = 16 * 2**20
_PATIENCE_SECONDS = 20.0


def with_bucket(images: DataFrame) -> DataFrame:
    """The rows of `images` whose ETag has one of S3's MD5 forms, with a column `bucket`."""
    bucket = F.regexp_extract("uri", "^s3[an]?://([^/]+)", 1)
    return images.where(MD5_ETAG).withColumn("bucket", bucket)


def first_of_equal_etags(pending: DataFrame, buckets: Sequence[str]) -> DataFrame:
    """The first of the pending images of these buckets with equal size and ETag; the other images are left out."""
    first = with_bucket(pending).where(F.col("bucket").isin(list(buckets))).groupBy(*SAME_ETAG)
    return pending.join(first.agg(F.min("image_id").alias("image_id")).select("image_id"), "image_id", "left_semi")


def copies_of_equals(
    pending: DataFrame, images: DataFrame, features: DataFrame, buckets: Sequence[str], run_id: str
) -> DataFrame:
    """Rows of features for those pending images of these buckets that equal an image which was read; lazy."""
    wanted = with_bucket(pending).where(F.col("bucket").isin(list(buckets)))
    outcome = F.coalesce("reject_reason", "status")
    read = features.where(outcome.isin(list(_ABOUT_CONTENT))).select("image_id")
    donor = with_bucket(images).join(read, "image_id").groupBy(*SAME_ETAG).agg(F.min("image_id").alias("donor_id"))
    pairs = wanted.join(donor, list(SAME_ETAG)).select(
        F.col("image_id").alias("to_id"), F.col("object_version").alias("to_version"), reading_key().alias("to_key"),
        "donor_id",
    )  # fmt: skip
    changed: dict[str, Column] = {
        "image_id": F.col("to_id"),
        "object_version": F.col("to_version"),
        "reading_key": F.col("to_key"),
        "run_id": F.lit(run_id),
        "n_retries": F.lit(0),
    }
    return pairs.join(features, F.col("donor_id") == F.col("image_id")).withColumns(changed)


def trusted_buckets(images: DataFrame, features: DataFrame, source: Source) -> list[str]:
    """Buckets where some reads can be saved and whose ETags are MD5 sums, as a few objects that the driver reads show.

    One shuffle of some 60 bytes per image of `images` that has such an ETag. `images` and `source` are of the lake of
    this run; ETags that a manifest gives prove nothing.
    """
    if not source.has_own_etags:
        return []
    is_pending = F.col("is_made").isNull()
    made = features.select("image_id", F.lit(True).alias("is_made"))
    listed = with_bucket(images).join(made, "image_id", "left").withColumn("is_pending", is_pending)
    saved = _buckets_with_equals(listed)
    candidates = _candidates(listed.where("is_pending"), list(saved)) if saved else []
    proven = [
        bucket
        for bucket, objects in groupby(candidates, key=lambda row: row["bucket"])
        if _is_proven(source, bucket, list(objects), saved[bucket])
    ]
    for bucket in saved.keys() - {row["bucket"] for row in candidates}:
        _say_untrusted(bucket, "none of its objects can show that they are MD5 sums", saved[bucket])
    return proven


def _buckets_with_equals(listed: DataFrame) -> dict[str, int]:
    """From bucket to the number of pending images that share size and ETag with another; the buckets with most."""
    groups = listed.groupBy(*SAME_ETAG).agg(
        F.count("*").alias("n_equal"), F.count_if(F.col("is_pending")).alias("n_pending")
    )
    by_bucket = groups.where("n_equal > 1 AND n_pending > 0").groupBy("bucket").agg(F.sum("n_pending").alias("n"))
    return {r["bucket"]: r["n"] for r in by_bucket.orderBy(F.desc("n"), "bucket").limit(_MOST_BUCKETS).collect()}


def _candidates(pending: DataFrame, buckets: list[str]) -> list[Row]:
    """Some pending objects of each bucket that were written in one piece, ordered by bucket."""
    is_fit = F.expr(_SINGLE_PART) & F.col("size_bytes").between(1, _MOST_BYTES)
    fit = pending.where(F.col("bucket").isin(buckets) & is_fit)
    rank: Column = F.row_number().over(Window.partitionBy("bucket").orderBy("image_id"))  # ids are hashes: random
    some = fit.withColumn("rank", rank).where(F.col("rank") <= _CANDIDATES_PER_BUCKET)
    return some.select("bucket", *ADDRESS_COLUMNS).orderBy("bucket", "rank").collect()


def _is_proven(source: Source, bucket: str, objects: list[Row], n_saved: int) -> bool:
    """Whether the first few objects that can be read have the MD5 that their ETag states."""
    n_right, why = 0, ""
    for row in objects:
        address = replace(Address.of(row), etag=None)  # the ETag is what is to be proven
        try:
            data, _ = fetch_patiently(source, address, _PATIENCE_SECONDS, _MOST_BYTES)
        except ImageRejected as e:
            if e.reason in UNAVAILABLE:  # the next object would take as long
                _say_untrusted(bucket, f"the store does not answer ({e.message})", n_saved)
                return False
            why = f"{row['uri']} could not be read to see what they are ({e.reason}: {e.message})"
            continue
        if hashlib.md5(data, usedforsecurity=False).hexdigest() != row["etag"].lower():
            _say_untrusted(bucket, f"that of {row['uri']} is not the MD5 of its bytes", n_saved)
            return False
        n_right += 1
        if n_right == _OBJECTS_PER_BUCKET:
            return True
    if not n_right:
        _say_untrusted(bucket, why, n_saved)
    return n_right > 0


def _say_untrusted(bucket: str, why: str, n_saved: int) -> None:
    log.warning(
        "extract: the ETags of bucket %s are not trusted: %s; its %s images of equal size and ETag are all read",
        bucket, why, f"{n_saved:,}",
    )  # fmt: skip

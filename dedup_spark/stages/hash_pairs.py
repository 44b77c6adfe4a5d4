"""Pairs from hashes: equal bytes or pixels, near pHash. SQL alone, the first two sources of match."""

from __future__ import annotations

import itertools

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dedup_spark.config import MatchSettings
from dedup_spark.stages.representatives import with_representative

_PHASH_PARTS = 5
"""The 64 bits in 5 parts: 3 differing bits leave at least 2 parts equal, so every pair within 3 bits shares one of
the 10 two-part keys of about 25 bits. One part alone (13 bits) would make 1e8 images compare 1e11 pairs."""


def identical_pairs(features: DataFrame) -> DataFrame:
    """Each image with the representative of its pixels: n - 1 pairs for n identical images, not n squared."""
    member = with_representative(features)
    first = member.where("image_id = representative_id").select(
        "representative_id", F.col("content_hash").alias("first_content_hash")
    )
    pairs = member.where("image_id <> representative_id").join(first, "representative_id")
    method = F.when(F.col("content_hash") == F.col("first_content_hash"), "same_bytes").otherwise("same_pixels")
    return pairs.select(
        F.col("representative_id").alias("image_id_a"),  # the smallest id of its group
        F.col("image_id").alias("image_id_b"),
        method.alias("method"),
        F.lit(None).cast("string").alias("engine"),
        F.when(F.col("model_id").isNotNull(), 1.0).cast("float").alias("similarity"),
        F.lit(0).alias("hamming_bits"),
    )


def phash_pairs(unique: DataFrame, settings: MatchSettings) -> DataFrame:
    """Pairs of representatives whose pHashes differ in at most max_hamming_bits; exact but for crowded keys.

    A key shared by more than max_phash_bucket images (blank and flat pictures) proposes nothing: such a hash says
    nothing about the picture, and the embeddings decide.
    """
    bounds = [round(i * 64 / _PHASH_PARTS) for i in range(_PHASH_PARTS + 1)]
    parts = [_bits("phash", low, high) for low, high in itertools.pairwise(bounds)]
    keys = [
        F.struct(F.lit(n).alias("parts"), parts[i].alias("first"), parts[j].alias("second"))
        for n, (i, j) in enumerate(itertools.combinations(range(_PHASH_PARTS), 2))
    ]
    keyed = unique.select("image_id", "phash", F.explode(F.array(*keys)).alias("key"))
    crowd = keyed.groupBy("key").agg(F.sort_array(F.collect_list(F.struct("image_id", "phash"))).alias("crowd"))
    small = crowd.where(F.size("crowd").between(2, settings.max_phash_bucket))
    a = small.select("crowd", F.posexplode("crowd").alias("position", "a"))
    ab = a.select("a", F.explode(F.slice("crowd", F.col("position") + 2, F.size("crowd"))).alias("b"))
    bits = F.bit_count(F.col("a.phash").bitwiseXOR(F.col("b.phash")))
    near = ab.where(bits <= settings.max_hamming_bits)
    return near.select(F.col("a.image_id").alias("image_id_a"), F.col("b.image_id").alias("image_id_b")).distinct()


def near_enough(scored: DataFrame, settings: MatchSettings) -> DataFrame:
    """pHash pairs that the embeddings do not contradict; without embeddings the hash alone decides."""
    agrees = F.col("similarity").isNull() | (F.col("similarity") >= settings.min_similarity)
    return scored.where(agrees).withColumn("method", F.lit("phash")).withColumn("engine", F.lit(None).cast("string"))


def _bits(column: str, low: int, high: int) -> Column:
    """Bits low (included) to high (excluded) of a bigint, counted from the right."""
    return F.shiftrightunsigned(column, low).bitwiseAND(F.lit((1 << (high - low)) - 1))

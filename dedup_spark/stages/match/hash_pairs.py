"""Pairs from hashes: equal bytes or pixels, near pHash. The first two sources of match."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dedup_spark.config import MatchSettings
from dedup_spark.kernels.joins.hashes import near_in_buckets
from dedup_spark.stages.representatives import copies
from dedup_spark.vocabulary import Method

_PHASH_PARTS = 5
"""The 64 bits in 5 parts: 3 differing bits leave at least 2 parts equal, so every pair within 3 bits shares one of
the 10 two-part keys of about 25 bits. One part alone (13 bits) would make 1e8 images compare 1e11 pairs."""

_CHUNK_ROWS = 65_536

_ONE_TASK_IMAGES = 200_000
"""Up to so many images are joined by one task without a shuffle: 2 million keys, 50 MB, sorted there in 0.7 s. Spark's
shuffle and sort of the keys of 100,000 took 1.5 s of processor time."""

_BROADCAST_ROWS = 100_000
"""Pictures with copies, 150 bytes each, that every executor may hold rather than shuffle the hashes of all images."""


def identical_pairs(features: DataFrame, with_copies: DataFrame, n_with_copies: int) -> DataFrame:
    """Each image with the representative of its pixels: n - 1 pairs for n identical images, not n squared.

    `with_copies`: image_id, pixel_hash and content_hash of the `n_with_copies` representatives that have copies.
    """
    with_copies = with_copies.select(
        "pixel_hash", F.col("image_id").alias("representative_id"), F.col("content_hash").alias("first_content_hash")
    )
    if n_with_copies <= _BROADCAST_ROWS:
        with_copies = F.broadcast(with_copies)
    pairs = copies(features, with_copies)
    same_bytes = F.col("content_hash") == F.col("first_content_hash")
    return pairs.select(
        F.least("representative_id", "image_id").alias("image_id_a"),
        F.greatest("representative_id", "image_id").alias("image_id_b"),
        F.when(same_bytes, Method.SAME_BYTES).otherwise(Method.SAME_PIXELS).alias("method"),
        F.lit(None).cast("string").alias("engine"),
        F.when(F.col("model_id").isNotNull(), 1.0).cast("float").alias("similarity"),
        F.lit(0).alias("hamming_bits"),
    )


def phash_pairs(unique: DataFrame, n_unique: int, settings: MatchSettings) -> DataFrame:
    """Pairs of the `n_unique` representatives whose pHashes differ in at most max_hamming_bits. All are found, except
    in overfull buckets.

    A bucket (key) shared by more than max_phash_bucket images (blank and flat pictures) proposes nothing: such a hash
    tells nothing about the picture, and the embeddings decide.
    """
    bounds = [round(i * 64 / _PHASH_PARTS) for i in range(_PHASH_PARTS + 1)]
    parts = [_bits("phash", low, high) for low, high in itertools.pairwise(bounds)]
    keys = [
        F.lit(n << 58).bitwiseOR(F.shiftleft(parts[i], 13)).bitwiseOR(parts[j])
        for n, (i, j) in enumerate(itertools.combinations(range(_PHASH_PARTS), 2))
    ]
    keyed = unique.select("image_id", "phash", F.explode(F.array(*keys)).alias("key"))
    near = functools.partial(_near_batches, max_bits=settings.max_hamming_bits, max_bucket=settings.max_phash_bucket)
    pairs = "image_id_a bigint, image_id_b bigint"
    if n_unique <= _ONE_TASK_IMAGES:
        return keyed.coalesce(1).mapInArrow(lambda batches: near(_sorted_by_key(batches)), pairs).distinct()
    together = keyed.repartition("key").sortWithinPartitions("key")  # Spark has a radix sort for one number alone
    return together.mapInArrow(near, pairs).distinct()


def _sorted_by_key(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """On executors: holds all rows twice."""
    held = list(batches)
    if held:
        yield from pa.Table.from_batches(held).sort_by("key").to_batches(max_chunksize=_CHUNK_ROWS)


def _near_batches(batches: Iterable[pa.RecordBatch], max_bits: int, max_bucket: int) -> Iterator[pa.RecordBatch]:
    """On executors: rows (image_id, phash, key) sorted by key to pairs; holds some 1.5 MB of rows."""
    for rows in _whole_keys(batches, max_bucket):
        ids, hashes, keys = (rows[c].to_numpy() for c in ("image_id", "phash", "key"))
        i, j = near_in_buckets(keys, hashes, max_bits, max_bucket)
        a, b = np.minimum(ids[i], ids[j]), np.maximum(ids[i], ids[j])
        yield pa.RecordBatch.from_arrays([pa.array(a), pa.array(b)], ["image_id_a", "image_id_b"])


def _whole_keys(batches: Iterable[pa.RecordBatch], max_bucket: int) -> Iterator[pa.Table]:
    """Tables of about _CHUNK_ROWS rows that do not split a bucket, unless it is overfull and proposes nothing."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        if sum(len(b) for b in held) < _CHUNK_ROWS:
            continue
        rows = pa.Table.from_batches(held)
        keys = rows["key"].to_numpy()
        cut = int(np.searchsorted(keys, keys[-1]))
        yield rows.slice(0, cut)
        # Of an overfull bucket one row more than allowed is enough to recognise it.
        held = rows.slice(max(cut, len(rows) - max_bucket - 1)).combine_chunks().to_batches()
    if held:
        yield pa.Table.from_batches(held)


def near_enough(scored: DataFrame, settings: MatchSettings) -> DataFrame:
    """pHash pairs that the embeddings do not contradict; without embeddings the hash alone decides.

    The cosine of a thumbnail of 32 or 64 px to its large original may be 0.2: it is for the evidence to say whether the
    two are copies. Below the floor, where unrelated pictures lie, a cosine contradicts.
    """
    floor = min(settings.min_similarity, settings.floor_similarity)
    agrees = F.col("similarity").isNull() | (F.col("similarity") >= floor)
    return scored.where(agrees).withColumns({"method": F.lit(Method.PHASH), "engine": F.lit(None).cast("string")})


def _bits(column: str, low: int, high: int) -> Column:
    """Bits low (included) to high (excluded) of a bigint, counted from the right."""
    return F.shiftrightunsigned(column, low).bitwiseAND(F.lit((1 << (high - low)) - 1))

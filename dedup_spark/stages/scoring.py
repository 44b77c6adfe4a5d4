"""Exact scores of given pairs; shared by match (candidates) and cluster (members to keepers)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dedup_spark.kernels import vectors
from dedup_spark.spark.needed_rows import only_needed

_SCORED = "image_id_a bigint, image_id_b bigint, similarity float, hamming_bits int"


def score_pairs(pairs: DataFrame, signatures: DataFrame) -> DataFrame:
    """(image_id_a, image_id_b) with cosine `similarity` (null where an embedding is missing) and `hamming_bits`.

    `signatures` has image_id, phash and embedding. Two joins that move 1 KB for each image of `pairs`, which should be
    staged, or narrow.
    """
    needed = only_needed(signatures, pairs.select(F.explode(F.array("image_id_a", "image_id_b")).alias("image_id")))
    a, b = ([F.col(c).alias(f"{c}_{side}") for c in ("image_id", "phash", "embedding")] for side in "ab")
    joined = pairs.join(needed.select(a), "image_id_a").join(needed.select(b), "image_id_b")
    bits = hamming_bits("phash_a", "phash_b").alias("hamming_bits")
    both = joined.select("image_id_a", "image_id_b", bits, "embedding_a", "embedding_b")
    return both.mapInArrow(_score_batches, _SCORED)


def hamming_bits(a: str, b: str) -> Column:
    """In how many of 64 bits the pHashes in two columns differ; null where one is missing."""
    return F.bit_count(F.col(a).bitwiseXOR(F.col(b)))


def _score_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        a, b = batch["embedding_a"], batch["embedding_b"]
        known = np.flatnonzero(np.asarray(a.is_valid()) & np.asarray(b.is_valid()))
        halves = [vectors.from_bytes(column.take(pa.array(known)).to_pylist()) for column in (a, b)]
        cosine = np.zeros(len(batch), np.float32)
        cosine[known] = vectors.cosines(*halves)
        unknown = np.ones(len(batch), bool)
        unknown[known] = False
        similarity = pa.array(cosine, mask=unknown)
        columns = [batch["image_id_a"], batch["image_id_b"], similarity, batch["hamming_bits"]]
        yield pa.RecordBatch.from_arrays(columns, ["image_id_a", "image_id_b", "similarity", "hamming_bits"])

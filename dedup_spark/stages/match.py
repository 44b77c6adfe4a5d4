"""Match: find the pairs of images that show the same picture, and verify each by exact cosine.

Reads: features, shards
Writes: pairs
Kernels: sketch, ann
Scale: sketches compare every two shards once (half the matrix, about 0.25 G pairs/s a core at 256 bits); only
candidates are re-scored. pHash keys: 10 rows of 24 bytes an image through one shuffle.

Three sources of pairs, from cheap to dear: equal hashes (SQL), near pHash (an exact join on parts of the hash),
near embedding (sign sketches). All but the first look at representatives only.
"""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from dedup_spark import shards
from dedup_spark.config import Config, MatchSettings
from dedup_spark.errors import GuardError
from dedup_spark.kernels import ann, sketch
from dedup_spark.runs import Progress, Run
from dedup_spark.stages.representatives import representatives, with_representative
from dedup_spark.stages.scoring import score_pairs
from dedup_spark.tables import FEATURES, PAIRS, SHARDS

log = logging.getLogger(__name__)

_CANDIDATE = "image_id_a bigint, image_id_b bigint, similarity float"
_PHASH_PARTS = 5
"""The 64 bits in 5 parts: 3 differing bits leave at least 2 parts equal, so every pair within 3 bits shares one of
the 10 two-part keys of about 25 bits. One part alone (13 bits) would make 1e8 images compare 1e11 pairs."""


@dataclass(frozen=True)
class SketchSettings:
    """What a task needs to compare two shards."""

    root: str
    n_bits: int
    radius_bits: int
    min_similarity: float
    seed: int


def run(spark: SparkSession, config: Config, run: Run) -> None:
    """Collect pairs from the three sources, keep each once, verify, write in one commit."""
    tables, settings = run.tables, config.match
    features = tables.read(FEATURES)
    unique = tables.stage("unique", representatives(features).select("image_id", "phash", "embedding"))
    n_unique = unique.count()
    identical = tables.stage("identical", identical_pairs(features))

    near_phash = tables.stage("near_phash", near_enough(score_pairs(phash_pairs(unique, settings), unique), settings))
    items = work_items(tables.read(SHARDS))
    progress = Progress("match", "pairs of shards", n_items := items.count())
    with progress.watching(spark, done_before=0, n_under_way=n_items):
        found = tables.stage("near_embedding", sketch_pairs(items, sketch_settings(tables.root, settings)))
    _guard_against_explosion(found.count(), n_unique, settings.max_pairs_per_image)

    near_embedding = with_hamming(found, unique).withColumn("method", F.lit("sketch"))
    tables.overwrite(PAIRS, each_once([identical, near_phash, near_embedding]))
    by_method = {r["method"]: r["count"] for r in tables.read(PAIRS).groupBy("method").count().collect()}
    tables.drop_staged()
    run.count(representatives=n_unique, **by_method)


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
    return scored.where(agrees).withColumn("method", F.lit("phash"))


def work_items(shard_rows: DataFrame) -> DataFrame:
    """Every two shards once, and each with itself: (a_path, a_sha256, b_path, b_sha256)."""
    s = shard_rows.select("shard", "path", "sha256")
    a = s.select(F.col("shard").alias("a"), F.col("path").alias("a_path"), F.col("sha256").alias("a_sha256"))
    b = s.select(F.col("shard").alias("b"), F.col("path").alias("b_path"), F.col("sha256").alias("b_sha256"))
    return a.join(b, F.col("a") <= F.col("b"), "inner")


def sketch_settings(root: str, settings: MatchSettings) -> SketchSettings:
    """Bits and radius for the threshold and recall asked for."""
    n_bits = sketch.choose_bits(settings.min_similarity)
    radius = sketch.radius_bits(n_bits, settings.min_similarity, settings.min_recall)
    log.info("match: sketches of %d bits, radius %d bits, for cosine >= %g", n_bits, radius, settings.min_similarity)
    return SketchSettings(root, n_bits, radius, settings.min_similarity, settings.seed)


def sketch_pairs(items: DataFrame, settings: SketchSettings) -> DataFrame:
    """Pairs of representatives with cosine >= min_similarity, one task an item; lazy."""
    n_items = max(1, items.count())
    spread = items.repartitionByRange(n_items, "a", "b").sortWithinPartitions("a", "b")  # shard a stays loaded
    return spread.mapInArrow(functools.partial(_compare_batches, settings=settings), _CANDIDATE)


def with_hamming(pairs: DataFrame, unique: DataFrame) -> DataFrame:
    """Add hamming_bits from the two pHashes."""
    a, b = ([F.col(c).alias(f"{c}_{side}") for c in ("image_id", "phash")] for side in "ab")
    joined = pairs.join(unique.select(a), "image_id_a").join(unique.select(b), "image_id_b")
    return joined.withColumn("hamming_bits", F.bit_count(F.col("phash_a").bitwiseXOR(F.col("phash_b"))))


def each_once(sources: list[DataFrame]) -> DataFrame:
    """One row a pair; of several sources the cheapest is named."""
    columns = ["image_id_a", "image_id_b", "method", "similarity", "hamming_bits"]
    everything = functools.reduce(DataFrame.unionByName, [s.select(columns) for s in sources])
    rank = F.when(F.col("method") == "same_bytes", 0).when(F.col("method") == "same_pixels", 1)
    rank = rank.when(F.col("method") == "phash", 2).otherwise(3)
    best = F.min_by(F.struct("method", "similarity", "hamming_bits"), rank).alias("best")
    return everything.groupBy("image_id_a", "image_id_b").agg(best).select("image_id_a", "image_id_b", "best.*")


def _compare_batches(batches: Iterable[pa.RecordBatch], settings: SketchSettings) -> Iterator[pa.RecordBatch]:
    """On executors: pairs of shards to candidate pairs that pass the exact cosine."""
    for item in itertools.chain.from_iterable(batch.to_pylist() for batch in batches):
        ids_a, vectors_a = shards.read_shard(settings.root, item["a_path"], item["a_sha256"])
        sketches_a = _sketches(vectors_a, settings)
        if item["a"] == item["b"]:
            ids_b, vectors_b, sketches_b = ids_a, vectors_a, None
        else:
            ids_b, vectors_b = shards.read_shard(settings.root, item["b_path"], item["b_sha256"])
            sketches_b = _sketches(vectors_b, settings)
        for i, j in ann.near_sketches(sketches_a, sketches_b, settings.radius_bits):
            cosine = ann.cosines(vectors_a[i], vectors_b[j])
            near = cosine >= settings.min_similarity
            a, b = ids_a[i[near]], ids_b[j[near]]
            yield pa.RecordBatch.from_arrays(
                [np.minimum(a, b), np.maximum(a, b), cosine[near]], ["image_id_a", "image_id_b", "similarity"]
            )


def _sketches(vectors: ann.Halves, settings: SketchSettings) -> ann.Sketches:
    return sketch.make_sketches(vectors.astype(np.float32), settings.n_bits, settings.seed)


def _bits(column: str, low: int, high: int) -> Column:
    """Bits low (included) to high (excluded) of a bigint, counted from the right."""
    return F.shiftrightunsigned(column, low).bitwiseAND(F.lit((1 << (high - low)) - 1))


def _guard_against_explosion(n_pairs: int, n_images: int, max_pairs_per_image: int) -> None:
    if n_pairs > max_pairs_per_image * max(n_images, 1):
        raise GuardError(
            f"{n_pairs:,} pairs among {n_images:,} distinct images, more than match.max_pairs_per_image "
            f"({max_pairs_per_image}): many images share a template or are nearly blank. Raise match.min_similarity "
            "(and cluster.min_similarity), or allow it with --set match.max_pairs_per_image=N"
        )

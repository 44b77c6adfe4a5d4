"""From the pairs that tasks found to those of the lake: the k nearest of each image over all items, and densities."""

from __future__ import annotations

import functools

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from dedup_spark.spark.local_relation import local_relation
from dedup_spark.stages.scoring import hamming_bits
from dedup_spark.vocabulary import Method

JOINED_PAIR = ("image_id_a", "image_id_b", "similarity", "best_of_a", "best_of_b")
"""Columns of a pair as the tasks of a join give it."""

NEAREST = "image_id bigint, other_id bigint, similarity float, engine string"

_COLUMNS = ["image_id_a", "image_id_b", "method", "engine", "similarity", "hamming_bits"]


def nearest(found: DataFrame, k: int) -> DataFrame:
    """(image_id, other_id, similarity, engine) of the `k` nearest of each image; ties go to the smaller id.

    `found` has each pair with best_of_a and best_of_b: only those sides are shuffled, 20 bytes each. A pair may
    be there twice, where two items or two runs found it.
    """
    if k == 0:
        return local_relation(found.sparkSession, [], NEAREST)
    sides = [
        found.where(f"best_of_{one}").select(
            F.col(f"image_id_{one}").alias("image_id"),
            F.col(f"image_id_{other}").alias("other_id"),
            "similarity",
            "engine",
        )
        for one, other in ("ab", "ba")
    ]
    together = sides[0].unionByName(sides[1]).repartition("image_id")  # one shuffle for both that follow
    once = together.dropDuplicates(["image_id", "other_id"])
    nearest_first = Window.partitionBy("image_id").orderBy(F.desc("similarity"), "other_id")
    ranked = once.withColumn("rank", F.row_number().over(nearest_first))
    return ranked.where(F.col("rank") <= k).select("image_id", "other_id", "similarity", "engine")


def kept_pairs(found: DataFrame, top: DataFrame, min_similarity: float) -> DataFrame:
    """Rows of `pairs` without hamming_bits: above min_similarity, or among the nearest of either image; some twice."""
    near = found.where(F.col("similarity") >= F.lit(min_similarity).cast("float"))
    of_top = top.select(
        F.least("image_id", "other_id").alias("image_id_a"), F.greatest("image_id", "other_id").alias("image_id_b"),
        "similarity", "engine",
    )  # fmt: skip
    both = near.select("image_id_a", "image_id_b", "similarity", "engine").unionByName(of_top)
    return both.withColumn("method", F.lit(Method.EMBEDDING))


def densities(embedded: DataFrame, top: DataFrame, incomplete: DataFrame | None = None) -> DataFrame:
    """image_id, similarities, complete_above, vector_hash of every row (image_id, vector_hash); an empty array where
    none is near. `incomplete`: (image_id, complete_above) of the images that may lack some of their nearest."""
    lists = top.groupBy("image_id").agg(F.sort_array(F.collect_list("similarity"), asc=False).alias("similarities"))
    none = F.array().cast("array<float>")
    if incomplete is None:
        lists = lists.withColumn("complete_above", F.lit(None).cast("float"))
    else:
        lists = lists.join(incomplete, "image_id", "full")
    return embedded.join(lists, "image_id", "left").select(
        "image_id", F.coalesce("similarities", none).alias("similarities"), "complete_above", "vector_hash"
    )


def with_hamming(pairs: DataFrame, unique: DataFrame) -> DataFrame:
    """Add hamming_bits from the two pHashes."""
    a, b = ([F.col(c).alias(f"{c}_{side}") for c in ("image_id", "phash")] for side in "ab")
    joined = pairs.join(unique.select(a), "image_id_a").join(unique.select(b), "image_id_b")
    return joined.withColumn("hamming_bits", hamming_bits("phash_a", "phash_b"))


def each_once(sources: list[DataFrame]) -> DataFrame:
    """One row per pair; of several sources the cheapest is named."""
    everything = functools.reduce(DataFrame.unionByName, [s.select(_COLUMNS) for s in sources])
    rank = F.array_position(F.lit([method.value for method in Method]), F.col("method"))  # from 1
    best = F.min_by(F.struct(_COLUMNS[2:]), rank).alias("best")
    return everything.groupBy("image_id_a", "image_id_b").agg(best).select("image_id_a", "image_id_b", "best.*")

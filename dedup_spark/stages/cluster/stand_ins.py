"""Members that stay, and so may stand for mere re-encodings of themselves. Part of the step cluster.

Of a picture that was marked or cropped in one way, and is kept beside the original, a smaller or more compressed copy
is no loss, though it is an edited copy of the keeper. The first by rank of those that look like it stands for it.
"""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dedup_spark.spark.local_relation import local_relation
from dedup_spark.stages.cluster.distances import Distances
from dedup_spark.stages.cluster.relations import related_to_keeper
from dedup_spark.stages.cluster.removal import DETAIL_FACTS
from dedup_spark.store.tables import Tables
from dedup_spark.vocabulary import Relation

_NAMED = ("stand_in_image_id", "stand_in_distance", *(f"stand_in_{fact}" for fact in DETAIL_FACTS))


def stand_ins(
    placed: DataFrame, n_staying: int, distances: Distances, features: DataFrame, tables: Tables
) -> DataFrame:
    """representative_id, and of the image that may stand for it: stand_in_image_id, stand_in_distance, and its
    DETAIL_FACTS with stand_in_ before the name; at most one for a representative. Lazy.

    Who stands goes for nobody: of each member it is the first by rank among those that are alike to it and have
    nobody alike before them.

    Args:
        placed: Members of tiers.with_tier_to_keeper.
        n_staying: How many representatives do not go for their keeper. With fewer than two nobody can stand for one.
    Cost: two joins of pairs that are alike; the thumbnails of those pairs once more.
    """
    if n_staying < 2:
        facts = placed.select(*DETAIL_FACTS).schema
        types = ", ".join(f"stand_in_{f.name} {f.dataType.simpleString()}" for f in facts)
        ids = "representative_id bigint, stand_in_image_id bigint, stand_in_distance float"
        return local_relation(placed.sparkSession, [], f"{ids}, {types}")
    staying = placed.where("is_staying").select(
        "representative_id", "image_id", "keeper_image_id", "rank", *DETAIL_FACTS
    )
    chosen = tables.stage("stand_ins", _chosen(staying, distances.near))
    ends = F.col("representative_id"), F.col("keeper_representative_id")
    pairs = chosen.select(F.least(*ends).alias("image_id_a"), F.greatest(*ends).alias("image_id_b"))
    related = related_to_keeper(chosen, distances.between(pairs), features)
    reencoded = related.where(F.col("relation") == Relation.REENCODED).select("representative_id")
    return chosen.join(reencoded, "representative_id").select("representative_id", *_NAMED)


def _chosen(staying: DataFrame, near: DataFrame) -> DataFrame:
    """representative_id, keeper_representative_id of who may stand for it, and _NAMED of that one."""
    member = staying.select(F.col("representative_id").alias("own"), "keeper_image_id", F.col("rank").alias("own_rank"))
    other = staying.select(
        F.col("representative_id").alias("other"),
        F.col("keeper_image_id").alias("of_other"),
        "rank",
        F.col("image_id").alias("stand_in_image_id"),
        *(F.col(fact).alias(f"stand_in_{fact}") for fact in DETAIL_FACTS),
    )
    alike = near.where("alike").select(F.explode(F.array(
        F.struct(F.col("a").alias("own"), F.col("b").alias("other"), F.col("distance").alias("stand_in_distance")),
        F.struct(F.col("b").alias("own"), F.col("a").alias("other"), F.col("distance").alias("stand_in_distance")),
    )).alias("pair")).select("pair.*")  # fmt: skip
    behind = alike.join(member, "own").join(other, "other").where("keeper_image_id = of_other AND rank < own_rank")
    goes_itself = behind.select(F.col("own").alias("other")).distinct()
    standing = behind.join(goes_itself, "other", "left_anti")
    first = F.min_by(F.struct(F.col("other").alias("keeper_representative_id"), *_NAMED), "rank").alias("first")
    return standing.groupBy(F.col("own").alias("representative_id")).agg(first).select("representative_id", "first.*")

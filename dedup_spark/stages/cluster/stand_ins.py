"""Members that stay, and so are kept for mere re-encodings of themselves. Part of the step cluster.

Of a picture that was marked or cropped in one way, and is kept beside the original, a smaller or more compressed copy
is no loss, though it is an edited copy of the original. The first by rank of those that look like it stands in for it.
"""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dedup_spark.columns import Columns
from dedup_spark.spark.local_relation import local_relation
from dedup_spark.stages.cluster.distances import Distances
from dedup_spark.stages.cluster.keepers import MEASURED
from dedup_spark.stages.cluster.relations import RELATED, related_to_keeper
from dedup_spark.stages.cluster.removal import DETAIL_FACTS
from dedup_spark.store.schema import FEATURES
from dedup_spark.store.tables import Tables
from dedup_spark.vocabulary import Relation

BETWEEN = (*MEASURED, "differing_share")
"""What is known between a member and its stand-in; in `stand_ins` with `stand_in_` before the names."""

_FACTS = FEATURES.schema.only(*DETAIL_FACTS)
_STAND_IN = Columns("image_id bigint") + _FACTS + MEASURED + RELATED.only("differing_share")
_COLUMNS = Columns("representative_id bigint, " + ", ".join(f"stand_in_{n} {t}" for n, t in _STAND_IN.types.items()))


def stand_ins(
    placed: DataFrame, n_staying: int, distances: Distances, features: DataFrame, tables: Tables
) -> DataFrame:
    """representative_id, and of the image that stands in for it, with stand_in_ before the names: image_id,
    DETAIL_FACTS, and BETWEEN of the two. At most one for a representative; lazy.

    Who stands in goes for nobody: of each member it is the first by rank among those that are alike to it and have
    nobody alike before them.

    Args:
        placed: Members of tiers.with_tier_to_keeper.
        n_staying: How many representatives do not go for their keeper. With fewer than two nobody can stand in.
    Cost: two joins of pairs that are alike; the thumbnails of those pairs once more.
    """
    if n_staying < 2:
        return local_relation(placed.sparkSession, [], _COLUMNS)
    facts = [F.col(name).cast(kind).alias(name) for name, kind in _FACTS.types.items()]
    staying = placed.where("is_staying").select("representative_id", "image_id", "keeper_image_id", "rank", *facts)
    chosen = tables.stage("stand_ins", _chosen(staying, distances.near))
    ends = F.col("representative_id"), F.col("keeper_representative_id")
    ids = F.least(*ends).alias("image_id_a"), F.greatest(*ends).alias("image_id_b")
    measured = tables.stage("stand_ins_measured", distances.between(chosen.select(*ids)))
    related = related_to_keeper(chosen, measured, features).where(F.col("relation") == Relation.REENCODED)
    known = chosen.select("*", *ids).join(measured, ["image_id_a", "image_id_b"]).join(related, "representative_id")
    named = [F.col(name).cast(kind).alias(f"stand_in_{name}") for name, kind in _STAND_IN.types.items()]
    return known.select("representative_id", *named)


def _chosen(staying: DataFrame, near: DataFrame) -> DataFrame:
    """representative_id, keeper_representative_id of who may stand in for it, and image_id and facts of that one."""
    member = staying.select(F.col("representative_id").alias("own"), "keeper_image_id", F.col("rank").alias("own_rank"))
    other = staying.withColumnsRenamed({"representative_id": "other", "keeper_image_id": "of_other"})
    ends = F.array(*(F.struct(F.col(x).alias("own"), F.col(y).alias("other")) for x, y in ("ab", "ba")))
    alike = near.where("alike").select(F.explode(ends).alias("pair")).select("pair.*")
    behind = alike.join(member, "own").join(other, "other").where("keeper_image_id = of_other AND rank < own_rank")
    goes_itself = behind.select(F.col("own").alias("other")).distinct()
    standing = behind.join(goes_itself, "other", "left_anti")
    named = F.struct(F.col("other").alias("keeper_representative_id"), "image_id", *DETAIL_FACTS)
    first = F.min_by(named, "rank").alias("first")
    return standing.groupBy(F.col("own").alias("representative_id")).agg(first).select("representative_id", "first.*")

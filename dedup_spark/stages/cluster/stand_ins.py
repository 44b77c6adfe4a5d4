"""Members that stay, and so are kept for mere re-encodings of themselves. Part of the step cluster.

Of a picture that was marked or cropped in one way, and is kept beside the original, a smaller or more compressed copy
is no loss, though it is an edited copy of the original. Of those that look like it the first by rank stands in for it.
"""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dedup_spark.columns import Columns
from dedup_spark.spark.local_relation import local_relation
from dedup_spark.stages.cluster.distances import Distances
from dedup_spark.stages.cluster.keepers import MEASURED
from dedup_spark.stages.cluster.reasons import with_direct
from dedup_spark.stages.cluster.relations import RELATED, related_to_keeper
from dedup_spark.stages.cluster.removal import DETAIL_FACTS
from dedup_spark.store.schema import FEATURES
from dedup_spark.store.tables import Tables
from dedup_spark.vocabulary import Relation

BETWEEN = (*MEASURED, "differing_share", "is_direct")
"""What is known between a member and its stand-in; in `stand_ins` with `stand_in_` before the names."""

_FACTS = FEATURES.schema.only("content_hash", *DETAIL_FACTS)
_STAND_IN = (
    Columns("image_id bigint") + _FACTS + MEASURED + RELATED.only("differing_share") + Columns("is_direct boolean")
)
_COLUMNS = Columns("representative_id bigint, " + ", ".join(f"stand_in_{n} {t}" for n, t in _STAND_IN.types.items()))
_ENDS = ("image_id_a", "image_id_b")


def stand_ins(
    placed: DataFrame, n_staying: int, distances: Distances, edges: DataFrame, pictures: DataFrame, tables: Tables
) -> DataFrame:
    """representative_id, and of the image that may stand in for it, with stand_in_ before the names: image_id, facts,
    and BETWEEN of the two. At most one for a representative; lazy.

    Who stands in goes for nobody: of each member it is the first by rank among those that are alike to it and have
    nobody alike before them. So a member whose first is no mere re-encoding of it has none.

    Args:
        placed: Members of tiers.with_tier_to_keeper.
        n_staying: How many of them are `is_staying`. With fewer than two nobody can stand in.
        edges: (a, b), the pairs that joined images.
        pictures: As `related_to_keeper` takes them.
    Cost: two joins of the pairs that are alike, which are moved as 24 bytes each; the thumbnails of the pairs chosen.
        By likeness the pairs that were measured for keepers are measured again, as they are not staged.
    """
    if n_staying < 2:
        return local_relation(placed.sparkSession, [], _COLUMNS)
    facts = [F.col(name).cast(kind).alias(name) for name, kind in _FACTS.types.items()]
    staying = placed.where("is_staying").select("representative_id", "image_id", "keeper_image_id", "rank", *facts)
    behind = tables.stage(
        "behind", _behind(staying.select("representative_id", "keeper_image_id", "rank"), distances.near)
    )
    chosen = tables.stage("stand_ins", _chosen(behind, staying))
    ids = F.col("representative_id"), F.col("keeper_representative_id")
    named = chosen.withColumns({"image_id_a": F.least(*ids), "image_id_b": F.greatest(*ids)})
    measured = tables.stage("stand_ins_measured", with_direct(distances.between(named.select(*_ENDS)), edges))
    related = related_to_keeper(chosen, measured, pictures).where(F.col("relation") == Relation.REENCODED)
    known = named.join(measured, [*_ENDS]).join(related, "representative_id")
    columns = [F.col(name).cast(kind).alias(f"stand_in_{name}") for name, kind in _STAND_IN.types.items()]
    return known.select("representative_id", *columns)


def _behind(staying: DataFrame, near: DataFrame) -> DataFrame:
    """(own, other, other_rank): members of one cluster that stay and are alike, the one of higher rank as `own`."""
    of_a, of_b = (
        staying.select(F.col("representative_id").alias(c), F.struct("keeper_image_id", "rank").alias(f"of_{c}"))
        for c in "ab"
    )
    both = near.where("alike").select("a", "b").join(of_a, "a").join(of_b, "b")
    inside = both.where("of_a.keeper_image_id = of_b.keeper_image_id")
    a_is_first = F.col("of_a.rank") < F.col("of_b.rank")
    return inside.select(
        F.when(a_is_first, F.col("b")).otherwise(F.col("a")).alias("own"),
        F.when(a_is_first, F.col("a")).otherwise(F.col("b")).alias("other"),
        F.least("of_a.rank", "of_b.rank").alias("other_rank"),
    )


def _chosen(behind: DataFrame, staying: DataFrame) -> DataFrame:
    """representative_id, keeper_representative_id of who may stand in for it, and image_id and facts of that one."""
    goes_itself = behind.select(F.col("own").alias("other")).distinct()
    standing = behind.join(goes_itself, "other", "left_anti")
    first = standing.groupBy(F.col("own")).agg(F.min_by("other", "other_rank").alias("keeper_representative_id"))
    facts = staying.withColumnRenamed("representative_id", "keeper_representative_id").drop("keeper_image_id", "rank")
    return first.withColumnRenamed("own", "representative_id").join(facts, "keeper_representative_id")

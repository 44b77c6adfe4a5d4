"""What is kept for each member, and in which removal tier that puts it. Part of the step cluster.

That is the keeper of its cluster, as a rule. Where the member would not go for that one, another member that stays may
be kept for it: a byte or pixel copy, or one of which it is a mere re-encoding (stand_ins.py). Of a picture marked in
one way and kept, copies are no loss. Such a member has that one as its keeper. Where the keeper is too far, the
supporting image binds the member to the cluster: `near_image_id`. In each case that one image stays.
"""

from __future__ import annotations

import functools

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dedup_spark.stages.cluster.keepers import facts_of
from dedup_spark.stages.cluster.removal import KEEPER_FACTS, NEAR_FACTS
from dedup_spark.stages.cluster.stand_ins import BETWEEN
from dedup_spark.vocabulary import DecidedBy, DistanceUnit, Relation, RemovalTier

_DETAILED, _CLEARLY, _FAR = 0.9, 1.25, 2.5
"""An enlarged picture has a smaller `detail_share`, which is measured to some 0.08; so the area up to which it holds
detail must be larger by a quarter to be more than that of the keeper. Of a picture with no more pixels it must be so
much larger that neither that error nor a resized copy of a soft picture, which counts as sharp, explains it."""


def with_scores(named: DataFrame, measured: DataFrame, related: DataFrame, unit: Column, bound: Column) -> DataFrame:
    """Add the scores to the keeper, relation, edit, decided_by and differing_share to members with keeper.

    Args:
        measured: Pairs with keepers.MEASURED and is_direct. Members that have their keeper's pixels need none: their
            distance is 0, and `unit` and `bound` are theirs.
        related: Rows of relations.RELATED.
    """
    ids = ("representative_id", "keeper_representative_id")
    a, b = F.least(*ids), F.greatest(*ids)
    scored = named.withColumns({"image_id_a": a, "image_id_b": b}).join(measured, ["image_id_a", "image_id_b"], "left")
    known = scored.join(related, "representative_id", "left")
    return known.withColumns(_of_equal_pixels(unit, bound)).withColumns(_related())


def with_tier_to_keeper(scored: DataFrame, removable_up_to: str) -> DataFrame:
    """Add `goes_for_keeper`: whether the member may go for the keeper of its cluster, and `is_staying`: whether it has
    other pixels than that one, is the first with its own, and does not go. Whatever else keeps it is not asked here
    (removal.py)."""
    is_allowed = F.coalesce(_tier().isin(*RemovalTier.up_to(removable_up_to)), F.lit(False))
    placed = scored.withColumn("goes_for_keeper", _is_near() & is_allowed)
    is_other = F.col("pixel_hash") != F.col("keeper_pixel_hash")
    return placed.withColumn("is_staying", _is_first() & is_other & ~F.col("goes_for_keeper"))


def with_tiers(
    placed: DataFrame, stand_ins: DataFrame, ranked: DataFrame, removable_up_to: str, unit: Column, bound: Column
) -> DataFrame:
    """Give members their own keepers, where they go for another member than the keeper of the cluster, with all that is
    known of the two; and add near_image_id, near_distance, the NEAR_FACTS of that image, removal_tier, is_near_keeper
    and `is_allowed`: whether the tier is one of those that the setting allows, and the member near enough to its
    keeper.

    `stand_ins`: As in stand_ins.py. `ranked`: All members with their facts. `unit`, `bound`: As in `with_scores`. Two
    joins of members, one by representative and one by image_id.
    """
    tiers = RemovalTier.up_to(removable_up_to)
    known = placed.join(_of_first(placed, stand_ins, tiers), "representative_id", "left")
    of_cluster = F.col("is_keeper") | (F.col("pixel_hash") == F.col("keeper_pixel_hash")) | F.col("goes_for_keeper")
    is_copy = ~of_cluster & ~_is_first() & ~F.col("first_goes")
    is_bound_to_stay = F.col("is_supporting") & _is_first()
    is_reencoded = ~of_cluster & ~is_copy & ~is_bound_to_stay & _goes_for_stand_in(tiers)
    near = (
        F.when(is_copy, F.col("first_image_id"))
        .when(is_reencoded, F.col("stand_in_image_id"))
        .when(of_cluster | _is_near(), F.col("keeper_image_id"))
        .otherwise(F.col("supporting_image_id"))
    )
    marked = known.withColumns(
        {"is_copy_of_stayer": is_copy, "is_reencoded_stayer": is_reencoded, "near_image_id": near}
    )
    faced = marked.join(facts_of("near", ranked, NEAR_FACTS), "near_image_id", "left")
    owned = _with_own_keeper(faced, unit, bound)
    distance = F.when(F.col("near_image_id") == F.col("keeper_image_id"), F.col("distance")).otherwise(
        F.col("supporting_distance")
    )
    tier = _tier()
    return owned.withColumns({
        "near_distance": distance.cast("float"),
        "removal_tier": tier,
        "is_near_keeper": _is_near(),
        "is_allowed": _is_near() & F.coalesce(tier.isin(*tiers), F.lit(False)),
    })  # fmt: skip


def _of_first(placed: DataFrame, stand_ins: DataFrame, tiers: tuple[RemovalTier, ...]) -> DataFrame:
    """By representative `stand_ins`, and `first_goes`: whether the first image with its pixels may go, for the keeper
    or for its stand-in. A row for each representative, so that copies of one picture move once."""
    firsts = placed.where(_is_first()).join(stand_ins, "representative_id", "left")
    goes = F.col("goes_for_keeper") | _goes_for_stand_in(tiers)
    return firsts.select(*stand_ins.columns, goes.alias("first_goes"))


def _goes_for_stand_in(tiers: tuple[RemovalTier, ...]) -> Column:
    """Whether the tier of a member to its stand-in, which is near it, is allowed; false where it has none."""
    tier = (
        F.when(F.col("content_hash") == F.col("stand_in_content_hash"), RemovalTier.SAME_BYTES)
        .when(_has_more_detail("stand_in"), RemovalTier.MORE_DETAIL)
        .otherwise(RemovalTier.REENCODED)
    )
    return F.col("stand_in_image_id").isNotNull() & tier.isin(*tiers)


def _with_own_keeper(members: DataFrame, unit: Column, bound: Column) -> DataFrame:
    """In the rows of a copy or a re-encoding what is near becomes the keeper, with what is known of the two."""
    own = F.col("is_copy_of_stayer") | F.col("is_reencoded_stayer")
    between = {name: _if_own(F.when(F.col("is_reencoded_stayer"), F.col(f"stand_in_{name}")), name) for name in BETWEEN}
    facts = {f"keeper_{fact}": _if_own(F.col(f"near_{fact}"), f"keeper_{fact}") for fact in KEEPER_FACTS}
    changed = {
        "keeper_image_id": _if_own(F.col("near_image_id"), "keeper_image_id"),
        "relation": _if_own(F.lit(str(Relation.REENCODED)), "relation"),
        "edit": F.when(~own, F.col("edit")),
    }
    owned = members.withColumns({**between, **facts, **changed})
    return owned.withColumns(_of_equal_pixels(unit, bound)).withColumns(_related())


def _if_own(value: Column, name: str) -> Column:
    return F.when(F.col("is_copy_of_stayer") | F.col("is_reencoded_stayer"), value).otherwise(F.col(name))


def _is_first() -> Column:
    """Whether the member is the first by rank of those with its pixels."""
    return F.col("image_id") == F.col("first_image_id")


def _is_near() -> Column:
    """Whether the member is within the bound of its keeper."""
    return F.coalesce(F.col("distance") <= F.col("bound"), F.lit(False))


def _related() -> dict[str, Column]:
    """Relation to the keeper, and what decided, of members whose `relation` says what thumbnails show."""
    relation = _relation()
    return {"relation": relation, "decided_by": _decided_by(relation)}


def _relation() -> Column:
    """To the keeper; null for the keeper itself."""
    return (
        F.when(F.col("is_keeper"), F.lit(None))
        .when(F.col("content_hash") == F.col("keeper_content_hash"), Relation.SAME_BYTES)
        .when(F.col("pixel_hash") == F.col("keeper_pixel_hash"), Relation.SAME_PIXELS)
        .otherwise(F.coalesce("relation", F.lit(Relation.EDITED_COPY)))
        .cast("string")
    )


def _tier() -> Column:
    """By the relation to the keeper; null for the keeper itself."""
    relation = F.col("relation")
    is_same = relation.isin(Relation.SAME_PIXELS, Relation.REENCODED)
    return F.when(is_same & _has_more_detail("keeper"), RemovalTier.MORE_DETAIL).otherwise(relation)


def _has_more_detail(than: str) -> Column:
    """Whether a copy that shows the picture of the keeper (or of a stand-in; `than` begins the names of its facts) is
    whole where that is damaged, is larger, has more bits per channel, transparency or colours that the other has not,
    holds something else beside its picture, or is a camera's raw file.

    An enlarged copy is not larger: what counts is the size up to which it holds detail. Thumbnails have 8 bits in sRGB
    over a ground, so they show none of the others. Of a raw file the preview is read, which may be equal to the picture
    that the camera wrote beside it.
    """
    better = (
        ~F.coalesce("is_damaged", F.lit(False)) & F.col(f"{than}_is_damaged"),
        _has_larger_detail(than),
        F.col("bits_per_channel") > F.col(f"{than}_bits_per_channel"),
        F.col("is_transparent") & ~F.col(f"{than}_is_transparent"),
        F.col("has_colour_profile") & ~F.col(f"{than}_has_colour_profile"),
        F.col("beside_hash").isNotNull() & ~F.col("beside_hash").eqNullSafe(F.col(f"{than}_beside_hash")),
        F.contains("decoder", F.lit("rawpy")) & ~F.contains(f"{than}_decoder", F.lit("rawpy")),
    )
    return functools.reduce(Column.__or__, (F.coalesce(is_so, F.lit(False)) for is_so in better))


def _has_larger_detail(than: str) -> Column:
    own, others = (F.col(f"{of}width_px") * F.col(f"{of}height_px") for of in ("", f"{than}_"))
    share, others_share = (F.coalesce(f"{of}detail_share", F.lit(1.0)) for of in ("", f"{than}_"))
    held, others_held = own * share * share, others * others_share * others_share
    return (own > others) & ((share >= _DETAILED) | (held > _CLEARLY * others_held)) | (held > _FAR * others_held)


def _of_equal_pixels(unit: Column, bound: Column) -> dict[str, Column]:
    """Scores and distance of the members that have their keeper's pixels; for other members the measured values."""
    unit, bound = F.coalesce("distance_unit", unit), F.coalesce("bound", bound)
    same = F.col("pixel_hash") == F.col("keeper_pixel_hash")
    known = {
        "similarity": F.when(F.col("model_id").isNotNull(), 1.0),
        "hamming_bits": F.lit(0),
        "distance": F.lit(0.0),
        "copy_probability": F.when(unit == DistanceUnit.COPY_PROBABILITY, 1.0),
    }
    made = {name: F.when(same, value).otherwise(F.col(name)) for name, value in known.items()}
    cast = {name: value.cast("int" if name == "hamming_bits" else "float") for name, value in made.items()}
    is_direct = same | F.coalesce("is_direct", F.lit(False))
    return {**cast, "distance_unit": unit, "bound": bound, "is_direct": is_direct}


def _decided_by(relation: Column) -> Column:
    """The evidence between member and keeper that decided; null where the two were not compared."""
    return (
        F.when(F.col("is_keeper"), F.lit(None))
        .when(relation == Relation.SAME_BYTES, DecidedBy.CONTENT_HASH)
        .when(relation == Relation.SAME_PIXELS, DecidedBy.PIXEL_HASH)
        .otherwise(F.col("decided_by"))
    )

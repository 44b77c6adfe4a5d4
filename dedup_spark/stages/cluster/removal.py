"""Which members of clusters may be removed, why the others stay, and what removal frees. Part of the step cluster.

A member may be removed when its removal tier is allowed, its keeper is another object that stays, and both were read by
a version whose facts can be relied on. Its keeper is that of the cluster, or another member that stays: a byte or pixel
copy of it, or what it is a mere re-encoding of (tiers.py). Whether both are still there is not checked here, as that
changes without a new row; the view `duplicates` checks it.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from dedup_spark.kernels.features.signature import OLDEST_DECIDING
from dedup_spark.stages.cluster.same_object import FACTS, is_hard_link, may_be_one_object
from dedup_spark.vocabulary import RemovalTier

DETAIL_FACTS = (
    "width_px", "height_px", "decoder", "detail_share", "is_damaged", "bits_per_channel", "is_transparent",
    "has_colour_profile", "beside_hash",
)  # fmt: skip
"""The columns of either of two images that say which of them has more detail."""

KEEPER_FACTS = ("content_hash", "pixel_hash", "etag", "object_version", *DETAIL_FACTS)
"""The columns of the keeper that each member gets, with `keeper_` before the name."""

NEAR_FACTS = tuple(dict.fromkeys((*FACTS, *KEEPER_FACTS, "signature_version")))
"""The columns of the image that stands for a member, with `near_` before the name."""


_SHORT_LIVED = (
    r"(?i)^https?://|/((\$|%24)recycle\.bin|recycler|recycled|[#@.]?recycle|\.?trash(es|-\d+)?|network trash folder"
    r"|files_trashbin|\.dropbox\.cache|[#~.@]snapshots?|\.snap|@recently-snapshot|\.zfs)/"
    r"|/\.(trashed|pending)-\d+-[^/]*$"
)
"""Addresses on the web, and below the recycle bins and snapshots of Windows, macOS, Linux, Android, and of file servers
(Samba, Synology, QNAP, NetApp, ZFS, BSD, Nextcloud, Dropbox)."""


def is_short_lived(uri: str) -> Column:
    """Whether somebody else decides how long the object at an address stays: it lies in a recycle bin or a snapshot,
    which are emptied by themselves, or on the web. No such object stands for one elsewhere."""
    return F.col(uri).rlike(_SHORT_LIVED)


def why_it_stays() -> Column:
    """In words; null for the keeper, and for members that may be removed."""
    return (
        F.when(F.col("is_keeper"), F.lit(None))
        .when(F.col("is_reference"), "stays: in cluster.reference_prefixes")
        .when(F.col("is_protected"), "stays: in cluster.protected_prefixes")
        .when(
            F.col("member").isNull() & F.col("position").isNotNull(),
            "stays: a part of a larger object, which cannot be removed by itself",
        )
        .when(
            may_be_one_object(),
            F.concat(
                F.lit("stays: may be "),
                _stander("the keeper itself"),
                F.when(is_hard_link(), " under another name: hard link").otherwise(" under another address"),
            ),
        )
        .when(is_outdated("signature_version"), "stays: read by an older version, until a run has read it again")
        .when(
            is_outdated("near_signature_version"),
            F.concat(F.lit("stays: "), _stander("its keeper"), F.lit(" was read by an older version")),
        )
        .when(
            F.col("is_supporting") & (F.col("image_id") == F.col("first_image_id")),
            "stays: another image belongs to the cluster because it is near this one",
        )
        .when(
            is_short_lived("near_uri") & ~is_short_lived("uri"),
            F.concat(F.lit("stays: "), _stander("its keeper"), F.lit(" lies in a recycle bin, a snapshot or the web")),
        )
        .when(
            _is_only_whole_one(),
            F.concat(F.lit("stays: it is whole, and a part of "), _stander("the keeper"), F.lit(" is lost")),
        )
        .when(~F.col("is_allowed"), _why_not_allowed())
    )


def _is_only_whole_one() -> Column:
    """Whether what stands for a member is damaged and the member is not: no setting lets the sound picture go."""
    return F.coalesce(F.col("near_is_damaged"), F.lit(False)) & ~F.coalesce("is_damaged", F.lit(False))


def _stander(keeper: str) -> Column:
    """What stands for the member: `keeper`, or the address of another image."""
    is_keeper = F.col("near_image_id") == F.col("keeper_image_id")
    return F.when(is_keeper, keeper).otherwise(F.col("near_uri"))


def _why_not_allowed() -> Column:
    tier = F.col("removal_tier")
    is_near = F.col("is_near_keeper") | (tier == RemovalTier.MORE_DETAIL)
    return (
        F.when(~is_near, "stays: it is not near enough to the keeper itself")
        .when(tier == RemovalTier.MORE_DETAIL, "stays: it has more detail than the keeper")
        .otherwise(F.concat(F.lit("stays: its removal tier, "), tier, F.lit(", is beyond cluster.removable_up_to")))
    )


def is_outdated(signature_version: str) -> Column:
    """Whether a row was made by a version whose facts cannot be relied on to remove images."""
    made_by = F.regexp_extract(signature_version, "^([0-9]+)/", 1).try_cast("int")
    return F.coalesce(made_by < OLDEST_DECIDING, F.lit(False))


def of_linked_files(kept: DataFrame) -> DataFrame:
    """(image_id, goes_whole, counts) of the members that are hard links: whether all names of the file may be removed,
    and whether the bytes of the file are counted at this one. Few rows, whatever the lake, are sorted by file."""
    linked = kept.where("n_links > 1 AND file_id IS NOT NULL AND member IS NULL")
    going = linked.where(~F.col("is_keeper") & why_it_stays().isNull())
    of_one_file = Window.partitionBy("file_id")
    return going.select(
        "image_id",
        (F.count("*").over(of_one_file) >= F.col("n_links")).alias("goes_whole"),
        (F.min("image_id").over(of_one_file) == F.col("image_id")).alias("counts"),
    )


def freed_bytes() -> Column:
    """For a row with is_removable and the columns of `of_linked_files`, which are null where it is no hard link."""
    frees = F.col("is_removable") & F.coalesce(F.col("goes_whole") & F.col("counts"), F.lit(True))
    return F.when(frees, F.col("size_bytes")).otherwise(0).cast("bigint")


def what_links_free() -> Column:
    """In words, for a hard link that may be removed; else null."""
    return (
        F.when(~F.col("is_removable"), F.lit(None))
        .when(~F.col("goes_whole"), "hard link: removing frees nothing")
        .when(~F.col("counts"), "hard link: what it frees is counted at another name of the file")
    )

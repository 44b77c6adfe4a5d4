"""Relation, scores and reason of every member, and what decided: the rows of `clusters`. Part of the step cluster."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

import dedup_spark
from dedup_spark.results_version import RESULTS_VERSION
from dedup_spark.stages.cluster.removal import freed_bytes, what_links_free, why_it_stays
from dedup_spark.vocabulary import ColourChange, DecidedBy, DistanceUnit, Relation

_LEAST_SHARE_SHOWN = 0.005
"""Of contested content: less would be shown as 0 %."""


def keeper_pairs(kept: DataFrame) -> DataFrame:
    """Distinct (smaller, larger) pairs of representatives of members and their keepers."""
    ids = ("representative_id", "keeper_representative_id")
    apart = kept.where(F.col(ids[0]) != F.col(ids[1]))
    return apart.select(F.least(*ids).alias("image_id_a"), F.greatest(*ids).alias("image_id_b")).distinct()


def with_direct(measured: DataFrame, edges: DataFrame) -> DataFrame:
    """Add is_direct: whether the pair is one of the edges (a, b) that joined images. One join of 16-byte pairs.

    Pairs that match did not propose, and that were measured for a keeper, are none of them, however near they are.
    """
    ends = F.col("a").alias("image_id_a"), F.col("b").alias("image_id_b")
    joined = edges.select(*ends, F.lit(True).alias("is_direct"))
    return measured.join(joined, ["image_id_a", "image_id_b"], "left").fillna(False, ["is_direct"])


def with_reasons(members: DataFrame, linked: DataFrame) -> DataFrame:
    """The rows of `clusters` from the members of tiers.with_tiers, is_bridge and why_kept.

    `linked`: The rows of removal.of_linked_files, of those that are hard links.
    """
    decided = members.join(linked, "image_id", "left").withColumn("stays", why_it_stays())
    marked = decided.withColumn("is_removable", ~F.col("is_keeper") & F.col("stays").isNull())
    return marked.select(
        "image_id", "uri", "member", "cluster_id", "cluster_size", "keeper_image_id", "is_keeper", "relation",
        "similarity", "hamming_bits",
        F.col("distance").alias("keeper_distance"), "distance_unit", "bound",
        "is_bridge", "is_protected", "is_reference",
        "is_removable",
        "size_bytes",
        freed_bytes().alias("freed_bytes"),
        "object_version", "etag", "content_hash", "modified_at",
        "keeper_object_version", "keeper_etag", "keeper_content_hash",
        _reason().alias("reason"),
        "decided_by", "copy_probability", "agreement", "contested", "n_inliers", "is_direct",
        _versions().alias("versions"),
        "removal_tier", "edit", "differing_share", "near_image_id", "near_distance", "near_object_version",
        "near_content_hash",
    )  # fmt: skip


def _reason() -> Column:
    relation = F.col("relation")
    why = (
        F.when(F.col("is_keeper"), F.col("why_kept"))
        .when(relation == Relation.SAME_BYTES, "byte for byte the keeper")
        .when(relation == Relation.SAME_PIXELS, "decodes to the keeper's pixels; the files differ")
        .otherwise(F.concat_ws("; ", _what_it_is(), _what_decided()))
    )
    indirect = F.when(~F.col("is_direct"), "joined through other members, and compared with the keeper afterwards")
    bridge = F.when(F.col("is_bridge"), "bridge: also near an image outside, where a chain was cut")
    return F.concat_ws("; ", why, indirect, _what_stands_for_it(), F.col("stays"), what_links_free(), bridge)


def _what_it_is() -> Column:
    """In words, what a member of other pixels is to its keeper; null for an edited copy of which no more is known."""
    relation, edit = F.col("relation"), F.col("edit")
    by = F.when(edit.isNotNull(), F.concat(F.lit(" ("), edit, F.lit(")")))
    return (
        F.when(
            relation == Relation.REENCODED,
            "the keeper re-encoded or resized: the thumbnails, laid over each other, show nothing lost or added",
        )
        .when(relation == Relation.STILL, "of the keeper's frames or pages it has some, or they differ")
        .when(relation == Relation.CONTAINED, F.concat(F.lit("one is a part of the other"), F.coalesce(by, F.lit(""))))
        .when(relation == Relation.RECOLOURED, "a strong colour of the keeper became another")
        .when(edit.isNotNull(), F.concat(F.lit("an edited copy"), by))
    )


def _what_stands_for_it() -> Column:
    """In words, where that is not the keeper of the cluster."""
    has_own = F.col("is_copy_of_stayer") | F.col("is_reencoded_stayer")
    return F.when(
        has_own, F.concat(F.lit("its keeper is "), F.col("near_uri"), F.lit(", which stays beside that of the cluster"))
    ).when(
        F.col("near_image_id") != F.col("keeper_image_id"),
        F.concat(F.lit("near "), F.col("near_uri"), F.lit(" rather than the keeper")),
    )


def _what_decided() -> Column:
    """A sentence with the numbers that decided between a member of other pixels and its keeper; null where the two were
    not compared."""
    by, is_calibrated = F.col("decided_by"), F.col("distance_unit") == DistanceUnit.COPY_PROBABILITY
    likely = F.format_string(", so a copy with probability %.4f", "copy_probability")
    return (
        F.when(by.isNull(), F.lit(None))
        .when(by == DecidedBy.PHASH, _bits_alone())
        .when(~is_calibrated, _cosine_alone())
        .when(by == DecidedBy.GEOMETRY, F.concat(_thumbnails(), likely))
        .when(by == DecidedBy.UNDECIDED, F.concat(
            F.lit("in doubt, and beyond cluster.max_verified_pairs, so that the thumbnails were not compared: "),
            _embeddings(), likely,
        ))
        .when(F.col("n_inliers").isNotNull(), F.concat(
            F.lit("the embeddings decided, as the thumbnails show too little to compare: "), _embeddings(), likely
        ))
        .otherwise(F.concat(
            F.lit("the embeddings decided, without a doubt: "), _embeddings(), F.lit(", "), _bits(), likely
        ))
    )  # fmt: skip


def _thumbnails() -> Column:
    """What the comparison of the two thumbnails gave, whether they could be aligned or not."""
    agree = F.format_string(
        "the thumbnails decided: %.0f %% of the content in common agrees, and %d keypoints fit one map",
        100 * F.col("agreement"), F.col("n_inliers"),
    )  # fmt: skip
    upright = F.format_string(
        "the thumbnails decided: laid over each other as they are, they agree in %.0f %% of what they show",
        100 * F.col("agreement"),
    )
    frame = F.format_string(
        ", but %.0f %% differs where similar images show neither, as in a common frame", 100 * F.col("contested")
    )
    apart = F.concat(F.lit("the thumbnails do not fit each other, which leaves the embeddings: "), _embeddings())
    seems_a_frame = F.col("contested") >= _LEAST_SHARE_SHOWN
    fitted = F.when(F.col("n_inliers") > 0, agree).otherwise(upright)
    return F.when(F.col("agreement").isNull(), apart).otherwise(
        F.concat(fitted, F.when(seems_a_frame, frame).otherwise(""), _what_differs())
    )


def _what_differs() -> Column:
    """Content that was exchanged or has another colour; empty where neither is to be seen."""
    exchanged = F.format_string("; %.0f %% of it shows other content in each", 100 * F.col("two_sided"))
    return F.concat(
        F.when(F.col("two_sided") >= _LEAST_SHARE_SHOWN, exchanged).otherwise(""),
        F.when(F.col("colour_change") == ColourChange.HUE, "; something has another colour").otherwise(""),
    )


def _embeddings() -> Column:
    """Cosine and neighbourhood, from which the prior is computed."""
    more = F.col("normalised_similarity")
    side = F.when(more >= 0, "above").otherwise("below")
    return F.format_string("cosine %.3f, %.3f %s that of their neighbourhood", "similarity", F.abs(more), side)


def _cosine_alone() -> Column:
    return F.format_string(
        "the embeddings decided, by a model without calibration: cosine %.3f, and %.3f is near enough",
        F.col("similarity"), 1 - F.col("bound"),
    )  # fmt: skip


def _bits_alone() -> Column:
    differs = F.format_string("the pHash decided, without embeddings: it differs in %d of 64 bits", "hamming_bits")
    is_bounded = F.col("distance_unit") == DistanceUnit.HAMMING_BITS
    allowed = F.format_string(", and %d are near enough", F.round(64 * F.col("bound")).cast("int"))
    return F.concat(differs, F.when(is_bounded, allowed).otherwise(""))


def _bits() -> Column:
    return F.format_string("pHash differs in %d of 64 bits", "hamming_bits")


def _versions() -> Column:
    """The versions of all that could decide otherwise after a change; the settings are in `runs`."""
    model = F.when(F.col("model_id").isNotNull(), F.concat(F.lit("model "), "model_id"))
    features = F.concat(F.lit("features "), "signature_version")
    return F.concat_ws("; ", F.lit(f"dedup-spark {dedup_spark.__version__} results {RESULTS_VERSION}"), features, model)

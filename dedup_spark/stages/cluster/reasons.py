"""Relation, scores and reason of every member, and what decided: the rows of `clusters`. Part of the step cluster."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

import dedup_spark
from dedup_spark.results import RESULTS_VERSION
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


def with_reasons(kept: DataFrame, measured: DataFrame, linked: DataFrame, unit: Column, bound: Column) -> DataFrame:
    """The rows of `clusters` from members with keeper, cluster_id and is_bridge.

    Args:
        measured: Pairs with keepers.MEASURED and is_direct. Members that have their keeper's pixels need none: their
            distance is 0, and `unit` and `bound` are theirs.
        linked: The rows of removal.of_linked_files, of those that are hard links.
    """
    ids = ("representative_id", "keeper_representative_id")
    a, b = F.least(*ids), F.greatest(*ids)
    scored = kept.withColumns({"image_id_a": a, "image_id_b": b}).join(measured, ["image_id_a", "image_id_b"], "left")
    relation = _relation()
    decided = scored.join(linked, "image_id", "left").withColumns(
        {
            **_of_equal_pixels(unit, bound),
            "relation": relation,
            "decided_by": _decided_by(relation),
            "stays": why_it_stays(),
        }
    )
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
    )  # fmt: skip


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
    return {**cast, "distance_unit": unit, "bound": bound, "is_direct": same | F.col("is_direct")}


def _relation() -> Column:
    return (
        F.when(F.col("is_keeper"), F.lit(None))
        .when(F.col("content_hash") == F.col("keeper_content_hash"), Relation.SAME_BYTES)
        .when(F.col("pixel_hash") == F.col("keeper_pixel_hash"), Relation.SAME_PIXELS)
        .otherwise(Relation.EDITED_COPY)
        .cast("string")
    )


def _decided_by(relation: Column) -> Column:
    """The evidence between member and keeper that decided."""
    return (
        F.when(F.col("is_keeper"), F.lit(None))
        .when(relation == Relation.SAME_BYTES, DecidedBy.CONTENT_HASH)
        .when(relation == Relation.SAME_PIXELS, DecidedBy.PIXEL_HASH)
        .otherwise(F.col("decided_by"))
    )


def _reason() -> Column:
    why = (
        F.when(F.col("is_keeper"), "kept: first by cluster.keeper_order of those near enough to all members")
        .when(F.col("relation") == Relation.SAME_BYTES, "byte for byte the keeper")
        .when(F.col("relation") == Relation.SAME_PIXELS, "decodes to the keeper's pixels; the files differ")
        .otherwise(_what_decided())
    )
    indirect = F.when(~F.col("is_direct"), "joined through other members, and compared with the keeper afterwards")
    bridge = F.when(F.col("is_bridge"), "bridge: also near an image outside, where a chain was cut")
    return F.concat_ws("; ", why, indirect, F.col("stays"), what_links_free(), bridge)


def _what_decided() -> Column:
    """A sentence with the numbers that decided between an edited copy and its keeper."""
    by, is_calibrated = F.col("decided_by"), F.col("distance_unit") == DistanceUnit.COPY_PROBABILITY
    likely = F.format_string(", so a copy with probability %.4f", "copy_probability")
    return (
        F.when(by == DecidedBy.PHASH, _bits_alone())
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

"""Relation, scores and reason of every member, and what decided: the rows of `clusters`. Part of the step cluster."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

import dedup_spark
from dedup_spark.results import RESULTS_VERSION
from dedup_spark.stages.cluster.removal import freed_bytes, what_links_free, why_it_stays


def keeper_pairs(kept: DataFrame) -> DataFrame:
    """Distinct (smaller, larger) pairs of representatives of members and their keepers."""
    ids = ("representative_id", "keeper_representative_id")
    apart = kept.where(F.col(ids[0]) != F.col(ids[1]))
    return apart.select(F.least(*ids).alias("image_id_a"), F.greatest(*ids).alias("image_id_b")).distinct()


def with_reasons(kept: DataFrame, scores: DataFrame, linked: DataFrame, bound: Column) -> DataFrame:
    """The rows of `clusters` from members with keeper, cluster_id and is_bridge, and `Distances.between` of them.

    Members that have their keeper's pixels need no weighing: their distance is 0, and `bound` is theirs. `linked` is
    what removal.of_linked_files says of those that are hard links.
    """
    ids = ("representative_id", "keeper_representative_id")
    a, b = F.least(*ids), F.greatest(*ids)
    scored = kept.withColumns({"image_id_a": a, "image_id_b": b}).join(scores, ["image_id_a", "image_id_b"], "left")
    same_picture = F.col("pixel_hash") == F.col("keeper_pixel_hash")
    similarity = F.when(same_picture & F.col("model_id").isNotNull(), 1.0).otherwise(F.col("similarity"))
    decided = scored.join(linked, "image_id", "left").withColumns(
        {
            "similarity": similarity.cast("float"),
            "hamming_bits": F.when(same_picture, 0).otherwise(F.col("hamming_bits")).cast("int"),
            "relation": _relation(),
            "stays": why_it_stays(),
        }
    )
    marked = decided.withColumn("is_removable", ~F.col("is_keeper") & F.col("stays").isNull())
    return marked.select(
        "image_id", "uri", "member", "cluster_id", "cluster_size", "keeper_image_id", "is_keeper", "relation",
        "similarity", "hamming_bits",
        F.when(same_picture, 0.0).otherwise(F.col("distance")).cast("float").alias("keeper_distance"),
        F.coalesce("bound", bound).alias("bound"),
        "is_bridge", "is_protected", "is_reference",
        "is_removable",
        "size_bytes",
        freed_bytes().alias("freed_bytes"),
        "object_version", "etag", "content_hash", "modified_at",
        "keeper_object_version", "keeper_etag", "keeper_content_hash",
        _reason().alias("reason"),
        _decided_by().alias("decided_by"),
        _versions().alias("versions"),
    )  # fmt: skip


def _relation() -> Column:
    return (
        F.when(F.col("is_keeper"), F.lit(None))
        .when(F.col("content_hash") == F.col("keeper_content_hash"), "same_bytes")
        .when(F.col("pixel_hash") == F.col("keeper_pixel_hash"), "same_pixels")
        .otherwise("edited_copy")
        .cast("string")
    )


def _reason() -> Column:
    scores = F.concat_ws(
        ", ",
        F.when(F.col("similarity").isNotNull(), F.format_string("cosine %.3f", "similarity")),
        F.format_string("pHash differs in %d of 64 bits", "hamming_bits"),
    )
    why = (
        F.when(F.col("is_keeper"), "kept: first by cluster.keeper_order of those near enough to all members")
        .when(F.col("relation") == "same_bytes", "byte for byte the keeper")
        .when(F.col("relation") == "same_pixels", "decodes to the keeper's pixels; the files differ")
        .otherwise(F.concat(F.lit("near the keeper: "), scores))
    )
    bridge = F.when(F.col("is_bridge"), "bridge: also near an image outside, where a chain was cut")
    return F.concat_ws("; ", why, F.col("stays"), what_links_free(), bridge)


def _decided_by() -> Column:
    """The evidence between member and keeper that decided."""
    return (
        F.when(F.col("is_keeper"), F.lit(None))
        .when(F.col("relation") == "same_bytes", "content_hash")
        .when(F.col("relation") == "same_pixels", "pixel_hash")
        .otherwise(F.col("measure"))
    )


def _versions() -> Column:
    """Everything whose change could have decided otherwise, but for settings, which are in `runs`."""
    model = F.when(F.col("model_id").isNotNull(), F.concat(F.lit("model "), "model_id"))
    features = F.concat(F.lit("features "), "signature_version")
    return F.concat_ws("; ", F.lit(f"dedup-spark {dedup_spark.__version__} results {RESULTS_VERSION}"), features, model)

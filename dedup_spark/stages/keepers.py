"""The keeper of each cluster, by policy, and the reason for every other member. Part of the step cluster."""

from __future__ import annotations

import re

from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from dedup_spark.config import ClusterSettings, Config
from dedup_spark.errors import ConfigError


def choose_keepers(members: DataFrame, images: DataFrame, features: DataFrame, settings: ClusterSettings) -> DataFrame:
    """Add uri, member, size_bytes, phash and the keeper's id and hashes to each member."""
    known = [c for c in features.columns if c in ("object_version", *members.columns) and c != "image_id"]
    facts = images.join(features.drop(*known), "image_id")
    described = members.join(facts, "image_id")
    order = [*keeper_columns(settings.keeper_order), F.col("image_id").asc()]
    rank = F.row_number().over(Window.partitionBy("cluster_id").orderBy(*order))
    ranked = described.withColumn("rank", rank).select(*members.columns, "uri", "member", "size_bytes", "phash", "rank")
    keepers = ranked.where("rank = 1").select(
        "cluster_id",
        *[F.col(c).alias(f"keeper_{c}") for c in ("image_id", "representative_id", "content_hash", "pixel_hash")],
    )
    return ranked.join(keepers, "cluster_id").drop("rank")


def keeper_columns(keeper_order: tuple[str, ...]) -> list[Column]:
    """`expression ASC|DESC` items to sort columns; nulls last, so that an unknown value never wins."""
    columns = []
    for item in keeper_order:
        expression, direction = re.fullmatch(r"(?is)\s*(.*?)(?:\s+(asc|desc))?\s*", item).groups()  # type: ignore[union-attr]
        column = F.expr(expression)
        columns.append(column.desc_nulls_last() if (direction or "asc").lower() == "desc" else column.asc_nulls_last())
    return columns


def require_keeper_order(images: DataFrame, features: DataFrame, settings: ClusterSettings) -> None:
    """Raise ConfigError when cluster.keeper_order is not SQL over the columns of images and features."""
    facts = images.join(features.drop("object_version"), "image_id")
    for item in settings.keeper_order:
        try:
            facts.orderBy(*keeper_columns((item,))).schema  # noqa: B018 - asking for the schema analyses the plan
        except (AnalysisException, ParseException) as e:
            raise ConfigError(
                f"cluster.keeper_order: '{item}' is not an SQL expression over images and features "
                f"followed by ASC or DESC: {str(e).strip().splitlines()[0]}"
            ) from e


def keeper_pairs(kept: DataFrame) -> DataFrame:
    """Distinct (smaller, larger) pairs of representatives of members and their keepers."""
    ids = ("representative_id", "keeper_representative_id")
    apart = kept.where(F.col(ids[0]) != F.col(ids[1]))
    return apart.select(F.least(*ids).alias("image_id_a"), F.greatest(*ids).alias("image_id_b")).distinct()


def with_reasons(kept: DataFrame, scores: DataFrame, config: Config) -> DataFrame:
    """The rows of `clusters`: relation, scores and the reason in words."""
    ids = ("representative_id", "keeper_representative_id")
    a, b = F.least(*ids), F.greatest(*ids)
    scored = kept.withColumns({"image_id_a": a, "image_id_b": b}).join(scores, ["image_id_a", "image_id_b"], "left")
    is_keeper = F.col("image_id") == F.col("keeper_image_id")
    same_picture = F.col("pixel_hash") == F.col("keeper_pixel_hash")
    near = (F.col("similarity") >= config.cluster.min_similarity) | (
        F.col("hamming_bits") <= config.match.max_hamming_bits
    )
    relation = (
        F.when(is_keeper, F.lit(None))
        .when(F.col("content_hash") == F.col("keeper_content_hash"), "same_bytes")
        .when(same_picture, "same_pixels")
        .when(near, "edited_copy")
        .otherwise("similar_scene")
    )
    similarity = F.when(same_picture & F.col("model_id").isNotNull(), 1.0).otherwise(F.col("similarity"))
    decided = scored.select(
        "image_id", "uri", "member", "cluster_id", "cluster_size", "keeper_image_id", "size_bytes",
        is_keeper.alias("is_keeper"),
        relation.cast("string").alias("relation"),
        similarity.cast("float").alias("similarity"),
        F.when(same_picture, 0).otherwise(F.col("hamming_bits")).cast("int").alias("hamming_bits"),
    )  # fmt: skip
    return decided.withColumn("reason", _reason())


def _reason() -> Column:
    scores = F.concat_ws(
        ", ",
        F.when(F.col("similarity").isNotNull(), F.format_string("cosine %.3f", "similarity")),
        F.format_string("pHash differs in %d of 64 bits", "hamming_bits"),
    )
    return (
        F.when(F.col("is_keeper"), "kept: first by cluster.keeper_order")
        .when(F.col("relation") == "same_bytes", "byte for byte the keeper")
        .when(F.col("relation") == "same_pixels", "decodes to the keeper's pixels; the files differ")
        .when(F.col("relation") == "edited_copy", F.concat(F.lit("near the keeper: "), scores))
        .otherwise(F.concat(F.lit("near other members, less near the keeper: "), scores))
    )

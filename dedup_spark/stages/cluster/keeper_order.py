"""Which member to keep: cluster.keeper_order over images and features, protected and reference images first.

Part of the step cluster.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from dedup_spark.config import ClusterSettings
from dedup_spark.errors import ConfigError
from dedup_spark.sources import addresses
from dedup_spark.sources.base import ADDRESS_COLUMNS

_ADDED = (
    *ADDRESS_COLUMNS, "modified_at", "object_version", "file_id", "n_links", "signature_version", "phash",
    "width_px", "height_px", "mode", "decoder",
    "is_protected", "is_reference", "rank",
)  # fmt: skip


def rank_members(members: DataFrame, images: DataFrame, features: DataFrame, settings: ClusterSettings) -> DataFrame:
    """Add address, size and facts to each member, and its `rank` in its group (`label`) by policy, from 1."""
    known = [c for c in members.columns if c != "image_id"]
    described = members.join(_facts(images, features, settings).drop(*known), "image_id")
    order = [F.col("is_protected").desc(), *keeper_columns(settings.keeper_order), F.col("image_id").asc()]
    rank = F.row_number().over(Window.partitionBy("label").orderBy(*order))
    return described.withColumn("rank", rank).select(*members.columns, *_ADDED)


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
    facts = _facts(images, features, settings)
    for item in settings.keeper_order:
        try:
            facts.orderBy(*keeper_columns((item,))).schema  # noqa: B018 - asking for the schema analyses the plan
        except (AnalysisException, ParseException) as e:
            raise ConfigError(
                f"cluster.keeper_order: '{item}' is not an SQL expression over images and features "
                f"followed by ASC or DESC: {str(e).strip().splitlines()[0]}"
            ) from e


def _facts(images: DataFrame, features: DataFrame, settings: ClusterSettings) -> DataFrame:
    """What the policy can use of an image: all columns of images and features, `prefix`, and whether it is protected.

    `object_version` is that of features: of the object as it was read, whatever the listings said since.
    """
    below = F.col("lake").isNotNull() & F.startswith("uri", F.concat("lake", F.lit("/")))
    path = F.when(below, F.expr("substring(uri, length(lake) + 2)"))
    relative = [p for p in (*settings.reference_prefixes, *settings.protected_prefixes) if not addresses.is_absolute(p)]
    lakes = [row["lake"] for row in images.select("lake").distinct().collect()] if relative else []
    reference = _begins(lakes, settings.reference_prefixes)
    return (
        images.drop("object_version")
        .join(features, "image_id")
        .withColumns(
            {
                "prefix": F.regexp_extract(F.coalesce(path, "uri"), "^(?s:.*/)?", 0),
                "is_reference": reference,
                "is_protected": reference | _begins(lakes, settings.protected_prefixes),
            }
        )
    )


def _begins(lakes: Sequence[str], prefixes: tuple[str, ...]) -> Column:
    """Whether an address begins with one of the prefixes. A relative prefix is looked for below every lake.

    It is every lake because lakes may lie in each other, and an image belongs to one of them only.
    """
    begins = F.lit(False)
    for prefix in prefixes:
        absolute = addresses.is_absolute(prefix)
        for whole in [addresses.to_prefix(prefix)] if absolute else [f"{lake}/{prefix}" for lake in lakes]:
            begins |= F.col("uri").startswith(whole)
    return begins

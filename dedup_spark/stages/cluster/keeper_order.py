"""Which member to keep: cluster.keeper_order over images and features, protected and reference images first, what lies
in a recycle bin or on the web last. The criteria themselves are in `dedup_spark/keeper_criteria.py`.

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
from dedup_spark.keeper_criteria import OF_FILE, OF_GROUP
from dedup_spark.sources import addresses
from dedup_spark.sources.base import ADDRESS_COLUMNS
from dedup_spark.stages.cluster.consensus import with_consensus, without_consensus
from dedup_spark.stages.cluster.plain_sql import NotPlainError, require_plain
from dedup_spark.stages.cluster.removal import DETAIL_FACTS, is_short_lived

_ADDED = (
    *ADDRESS_COLUMNS, "modified_at", "object_version", "file_id", "n_links", "signature_version", "phash",
    *DETAIL_FACTS,
    "is_protected", "is_reference", "rank", "order_values",
)  # fmt: skip


def rank_members(members: DataFrame, images: DataFrame, features: DataFrame, settings: ClusterSettings) -> DataFrame:
    """Add address, size and facts to each member, and its `rank` in its group (`label`) by policy, from 1.

    `order_values` has a hash of its value for each item of the policy, so that the first one in which two differ can be
    named; before them whether it is protected, and whether it is short-lived.
    """
    known = [c for c in members.columns if c != "image_id"]
    facts = _facts(images, features, settings).drop(*known)
    compared = with_consensus(members, features, settings.max_component_images)
    described = _compared(compared.join(facts, "image_id"))
    built_in = [F.col("is_protected").desc(), is_short_lived("uri").asc()]
    order = [*built_in, *keeper_columns(settings.keeper_order), F.col("image_id").asc()]
    rank = F.row_number().over(Window.partitionBy("label").orderBy(*order))
    values = [
        F.xxhash64("is_protected"),
        F.xxhash64(is_short_lived("uri")),
        *[F.xxhash64(F.expr(split_item(i)[0])) for i in settings.keeper_order],
    ]
    ranked = described.withColumns({"rank": rank, "order_values": F.array(*values)})
    return ranked.select(*members.columns, *_ADDED)


def prefixes_in_vain(images: DataFrame, settings: ClusterSettings) -> list[str]:
    """Those of cluster.protected_prefixes and reference_prefixes with which no address begins; one pass over the
    addresses where there are any prefixes. A mistake in one (another case or normal form, a path from the root) would
    let go what it was to protect."""
    prefixes = (*settings.protected_prefixes, *settings.reference_prefixes)
    if not prefixes:
        return []
    lakes = _lakes(images, prefixes)
    found = images.agg(*[F.max(_begins(lakes, (p,))).alias(str(i)) for i, p in enumerate(prefixes)]).collect()[0]
    return [prefix for prefix, begins in zip(prefixes, found, strict=True) if not begins]


def keeper_columns(keeper_order: tuple[str, ...]) -> list[Column]:
    """`expression ASC|DESC` items to sort columns; nulls last, so that an unknown value never wins."""
    columns = []
    for item in keeper_order:
        expression, direction = split_item(item)
        column = F.expr(expression)
        columns.append(column.desc_nulls_last() if direction == "desc" else column.asc_nulls_last())
    return columns


def split_item(item: str) -> tuple[str, str]:
    """The expression of an item, and `asc` or `desc`."""
    expression, direction = re.fullmatch(r"(?is)\s*(.*?)(?:\s+(asc|desc))?\s*", item).groups()  # type: ignore[union-attr]
    return expression, (direction or "asc").lower()


def require_keeper_order(images: DataFrame, features: DataFrame, settings: ClusterSettings) -> None:
    """Raise ConfigError when cluster.keeper_order is not SQL over the columns of images and features, or does more than
    compute from them."""
    facts = _compared(without_consensus(_facts(images, features, settings).withColumn("label", F.lit(0))))
    for item in settings.keeper_order:
        try:
            require_plain(images.sparkSession, split_item(item)[0])
            facts.orderBy(*keeper_columns((item,))).schema  # noqa: B018 - asking for the schema analyses the plan
        except (AnalysisException, ParseException, NotPlainError) as e:
            raise ConfigError(
                f"cluster.keeper_order: '{item}' is not an SQL expression over images and features "
                f"followed by ASC or DESC: {str(e).strip().splitlines()[0]}"
            ) from e


def _compared(described: DataFrame) -> DataFrame:
    """Add the columns that compare a member with its group (`label`): criteria.OF_GROUP, after those of consensus."""
    for columns in OF_GROUP:
        described = described.withColumns({name: F.expr(sql) for name, sql in columns.items()})
    return described


def _facts(images: DataFrame, features: DataFrame, settings: ClusterSettings) -> DataFrame:
    """What the policy can use of an image: all columns of images and features, those of criteria.OF_FILE, `prefix`, and
    whether it is protected.

    `object_version` is that of features: of the object as it was read, whatever the listings said since.
    """
    below = F.col("lake").isNotNull() & F.startswith("uri", F.concat("lake", F.lit("/")))
    path = F.when(below, F.expr("substring(uri, length(lake) + 2)"))
    lakes = _lakes(images, (*settings.reference_prefixes, *settings.protected_prefixes))
    reference = _begins(lakes, settings.reference_prefixes)
    return (
        images.drop("object_version")
        .join(features, "image_id")
        .withColumns(
            {name: F.expr(sql) for name, sql in OF_FILE.items()}
            | {
                "prefix": F.regexp_extract(F.coalesce(path, "uri"), "^(?s:.*/)?", 0),
                "is_reference": reference,
                "is_protected": reference | _begins(lakes, settings.protected_prefixes),
            }
        )
    )


def _lakes(images: DataFrame, prefixes: Sequence[str]) -> list[str]:
    """The lakes below which a relative prefix is looked for; none where no prefix is relative."""
    if all(map(addresses.is_absolute, prefixes)):
        return []
    return [row["lake"] for row in images.select("lake").distinct().collect()]


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

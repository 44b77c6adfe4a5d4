"""Why a keeper is kept: the first criterion of cluster.keeper_order in which it differs from the second in rank.

Part of the step cluster.
"""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from dedup_spark.keeper_criteria import WORDS
from dedup_spark.stages.cluster.keeper_order import split_item

_PROTECTED = "it is protected, and {other} is not"
_NOT_SHORT_LIVED = "{other} lies in a recycle bin, a snapshot or the web"
_BY_ID = "nothing in cluster.keeper_order tells it from {other}"
_OTHER = "{other}"


def with_why_kept(kept: DataFrame, keeper_order: Sequence[str]) -> DataFrame:
    """Add `why_kept` to members with `rank`, `order_values`, `is_keeper` and `keeper_image_id`; null but for keepers.

    Cost: one shuffle of the rows by keeper.
    """
    other = F.struct("rank", "order_values", _name().alias("name"))
    second = F.min(F.when(~F.col("is_keeper"), other)).over(Window.partitionBy("keeper_image_id"))
    described = kept.withColumn("second", second)
    why = F.when(F.col("is_keeper"), F.concat(F.lit("kept: "), _criterion(keeper_order)))
    return described.withColumn("why_kept", why).drop("second")


def words_of(item: str) -> str:
    """What an item of the policy says of a keeper, with {other} for the file that it is compared with."""
    known = {split_item(default): words for default, words in WORDS.items()}
    return known.get(split_item(item), f"cluster.keeper_order '{item.strip()}' puts it before {_OTHER}")


def _criterion(keeper_order: Sequence[str]) -> Column:
    cases = [_sentence(_BY_ID)]
    for place, words in reversed([*enumerate([_PROTECTED, _NOT_SHORT_LIVED, *map(words_of, keeper_order)])]):
        differs = F.get("order_values", F.lit(place)) != F.get("second.order_values", F.lit(place))
        cases.append(F.when(differs, _sentence(words)))
    return F.coalesce(*reversed(cases))


def _sentence(words: str) -> Column:
    before, _, after = words.partition(_OTHER)
    return F.concat(F.lit(before), F.col("second.name"), F.lit(after))


def _name() -> Column:
    """File name with its folder, of a member its name in the container."""
    return F.coalesce("member", F.regexp_extract("uri", "[^/]*/?[^/]*$", 0))

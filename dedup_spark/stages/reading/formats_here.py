"""Which images nothing here decodes, told from the endings of their names before any is read."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from dedup_spark.kernels.decoding.suffixes import FORMAT_OF_SUFFIX, formats_decoded_here, not_decoded
from dedup_spark.spark.executors import ask_an_executor

log = logging.getLogger(__name__)


def rare_suffix() -> Column:
    """Of a row with `uri` and `member`: the ending of its name in small letters, if it is one of FORMAT_OF_SUFFIX."""
    ending = F.lower(F.substring_index(F.coalesce("member", "uri"), ".", -1))
    return F.when(ending.isin(*FORMAT_OF_SUFFIX), ending)


def count_rare_suffixes(images: DataFrame) -> dict[str, int]:
    """Images by rare suffix; one pass over their names, and a row per suffix reaches the driver."""
    named = images.select(rare_suffix().alias("suffix")).where("suffix IS NOT NULL")
    return {row["suffix"]: row["count"] for row in named.groupBy("suffix").count().collect()}


def undecodable(spark: SparkSession, n_by_suffix: Mapping[str, int]) -> list[str]:
    """What executors cannot decode of these, a sentence each. A task asks for it where there is any such name."""
    return not_decoded(n_by_suffix, ask_an_executor(spark, formats_decoded_here)) if n_by_suffix else []


def say_undecodable(spark: SparkSession, n_by_suffix: Mapping[str, int]) -> None:
    for sentence in undecodable(spark, n_by_suffix):
        log.warning("extract: %s", sentence)

"""Picks the rows of a wide table that a join needs, before the join shuffles them.

A join of a few million ids with `features` would move the thumbnails of all images, a terabyte at 100 million, to find
those that are wanted. A broadcast of the ids grows with them, on the driver too. So the scan itself asks a Bloom filter
of the ids, 16 MB whatever their number, which Spark computes as a subquery (B. H. Bloom, 1970). It is a plain
predicate: the optimiser moves it below the other joins, to the scan. That it lets some more rows through costs their
bytes; the join that follows leaves them out.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from dedup_spark.spark.session import ROWS_PER_FILE_BYTE, setting_of

_SMALL_BYTES = 2 << 30
"""What Spark estimates to be smaller is shuffled whole: to make the filter takes 15 to 25 s on two busy cores, however
few the ids."""
_FILTER_BITS = 27
"""Bits of the filter, as a power of two. With two hashes it lets pass 0.02 % of the other rows at a million ids
(measured), 0.4 % at 4 million, 2 % at 10 million, 27 % at 50 million."""
_WORD_BITS = 6
_CHUNK_WORDS = 12
"""Words that one task puts together, as a power of two: 32 KB."""


def only_needed(wide: DataFrame, ids: DataFrame) -> DataFrame:
    """The rows of `wide` whose image_id is one of `ids` (image_id), and some more; all rows where these are few.

    Lazy. `ids` are computed once more than the caller does: they should be staged, or narrow.
    """
    return wide.where(_may_hold(_filter_of(ids))) if is_large(wide) else wide


def is_large(rows: DataFrame) -> bool:
    """Whether Spark estimates more than `_SMALL_BYTES` in files. Plans the query; no job."""
    estimate = int(str(rows._jdf.queryExecution().optimizedPlan().stats().sizeInBytes()))
    return estimate > _SMALL_BYTES * float(setting_of(rows.sparkSession, ROWS_PER_FILE_BYTE) or 1)


def _places() -> list[Column]:
    """Two places in the filter for the image_id of a row."""
    hashed = F.xxhash64("image_id")
    return [part.bitwiseAND(F.lit((1 << _FILTER_BITS) - 1)) for part in (hashed, F.shiftrightunsigned(hashed, 32))]


def _word(place: Column) -> Column:
    return F.shiftright(place, _WORD_BITS)


def _bit(place: Column) -> Column:
    """A word with the bit of this place."""
    within = place.bitwiseAND(F.lit((1 << _WORD_BITS) - 1)).cast("int")
    return F.call_function("shiftleft", F.lit(1).cast("bigint"), within)


def _may_hold(words: Column) -> Column:
    first, second = (F.get(words, _word(place).cast("int")).bitwiseAND(_bit(place)) != 0 for place in _places())
    return first & second


def _filter_of(ids: DataFrame) -> Column:
    """The filter of the ids, as an array of words: a subquery that gives one value."""
    spark = ids.sparkSession
    place = ids.select(F.explode(F.array(*_places())).alias("place"))
    held = place.groupBy(_word(F.col("place")).alias("word")).agg(F.bit_or(_bit(F.col("place"))).alias("bits"))
    words = spark.range(1 << (_FILTER_BITS - _WORD_BITS)).toDF("word").join(held, "word", "left")
    filled = words.select("word", F.coalesce("bits", F.lit(0).cast("bigint")).alias("bits"))
    chunks = filled.groupBy(F.shiftright("word", _CHUNK_WORDS).alias("chunk")).agg(_in_order("word").alias("bits"))
    return chunks.agg(F.flatten(_in_order("chunk"))).scalar()


def _in_order(by: str) -> Column:
    """Aggregate: the `bits` of all rows as an array, in the order of a column."""
    return F.sort_array(F.collect_list(F.struct(by, "bits"))).getField("bits")

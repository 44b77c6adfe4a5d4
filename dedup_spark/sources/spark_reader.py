"""Spark's readers for listings that are files or tables of the user: manifests, reports, tables of images."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from dedup_spark import redaction
from dedup_spark.errors import ConfigError, SourceError
from dedup_spark.sources import addresses
from dedup_spark.sources.base import LISTING
from dedup_spark.spark.task_errors import error_of_task

_NANOS = "spark.sql.legacy.parquet.nanosAsLong"
_TO_THE_END = {"ignoreCorruptFiles": False, "ignoreMissingFiles": False}
"""Overrides the session's settings: a listing of which a part could not be read must fail."""
_NESTED = (T.StructType, T.ArrayType, T.MapType, T.VariantType)


def load(spark: SparkSession, uris: Sequence[str], file_format: str, **options: Any) -> DataFrame:
    """A lazy DataFrame; the driver lists the files and reads the columns of one of them.

    Nanosecond timestamps of Parquet become numbers (`as_time`); a setting of the session is changed for that.

    Raises:
        ConfigError: there is no such file, or it cannot be read as `file_format`.
    """
    paths = [addresses.to_hadoop(spark, uri, literal=file_format != "delta") for uri in uris]
    whole: dict[str, Any] = _TO_THE_END if file_format in ("csv", "parquet", "orc") else {}
    try:
        return spark.read.load(paths if len(paths) > 1 else paths[0], format=file_format, **whole, **options)
    except (PySparkException, Py4JError) as e:
        if "TIMESTAMP(NANOS" in str(e) and spark.conf.get(_NANOS) != "true":  # what pandas writes; Spark refuses it
            spark.conf.set(_NANOS, "true")
            return load(spark, uris, file_format, **options)
        raise ConfigError(f"{uris[0]}: cannot be read as {file_format}: {first_line(e)}") from e


@contextmanager
def listing_errors(place: str) -> Iterator[None]:
    """Turn a failed Spark job over a listing into one sentence: our own error that a task raised, or SourceError."""
    try:
        yield
    except (PySparkException, Py4JError) as e:
        raise error_of_task(e) or SourceError(
            f"{place}: its listing ended early: {first_line(e)}; what is in it is unknown, so nothing was changed: "
            "run again, and if it stays so look at that file"
        ) from e


def column(name: str) -> Column:
    """A column by its literal name, with whatever characters; not a path into a struct."""
    return F.col(f"`{name.replace('`', '``')}`")


def as_text(field: T.StructField) -> Column:
    """The column as text: nested values as JSON, bytes in Base64."""
    if isinstance(field.dataType, _NESTED):
        return F.to_json(column(field.name))
    if isinstance(field.dataType, T.BinaryType):
        return F.base64(column(field.name))
    return column(field.name).cast("string")


def listing(rows: DataFrame, **known: Column) -> DataFrame:
    """LISTING from the columns that a source knows; values that do not parse, and the other columns, are null."""
    schema = cast(T.StructType, T.StructType.fromDDL(LISTING.ddl))
    return rows.select(*[known.get(f.name, F.lit(None)).try_cast(f.dataType).alias(f.name) for f in schema])


def as_time(value: Column, kind: T.DataType) -> Column:
    """A timestamp; a number counts seconds since 1970, or milli-, micro- or nanoseconds when it is that large."""
    if not isinstance(kind, T.NumericType):
        return value.try_cast("timestamp")
    seconds = F.when(value < 1e11, value).when(value < 1e14, value / 1e3).when(value < 1e17, value / 1e6)
    return F.timestamp_seconds(seconds.otherwise(value / 1e9))


def as_whole(value: Column) -> Column:
    """A whole number (bigint), which pandas writes as 12.0 where others are missing; null for anything else."""
    exact, number = value.try_cast("bigint"), value.try_cast("double")
    return F.coalesce(F.when(exact == number, exact), F.when(F.floor(number) == number, number.try_cast("bigint")))


def unquoted(etag: Column) -> Column:
    """An ETag without the quotes that S3 writes around it."""
    return F.trim(etag.cast("string"), F.lit('"'))


def text_map(texts: dict[str, Column]) -> Column:
    """`attributes`: the columns that are not null by name, without keys in addresses; null when there are none."""
    if not texts:
        return F.lit(None)
    pairs = F.create_map(*[part for name, text in texts.items() for part in (F.lit(name), _redacted(text))])
    known = F.map_filter(pairs, lambda _, text: text.isNotNull())
    return F.when(F.size(known) > 0, known)


def _redacted(text: Column) -> Column:
    for pattern, replacement in redaction.IN_ADDRESSES:
        text = F.regexp_replace(text, pattern, replacement)
    return text


def first_line(error: Exception) -> str:
    """What Spark says about the deepest cause of an error that says anything, without the trace."""
    text, cause = str(error), getattr(error, "java_exception", None)
    while cause is not None:  # a broken pipe to a Python worker that ended is an EOFException without a word
        text, cause = cause.getMessage() or text, cause.getCause()
    return re.sub(r"\s+", " ", text.split("\n\tat ")[0]).strip()[:400]

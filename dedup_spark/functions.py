"""Hashes, thumbnails and embeddings as pandas UDFs, for notebooks and SQL over Spark's own `binaryFile` source.

    import dedup_spark.functions as dedup
    dedup.register(spark)
    files = spark.read.load("s3a://bucket/photos", format="binaryFile", recursiveFileLookup=True)
    files.createOrReplaceTempView("files")
    spark.sql("SELECT phash(content).value AS hash, count(*) AS n FROM files GROUP BY 1 HAVING n > 1")
    files.select("path", dedup.thumbnail("content").value)

They compute what the step extract computes, by the same code in the same decoder processes: values equal those of
`features` for the same file and settings. What all that decode have in common:

* A null in gives nulls out. A file that is no image, or a damaged one, is no error: `value` is null, `reject_reason` is
  one of those of `features`, `reject_message` says more. A decoder that crashes or hangs costs that file alone.
* Each call decodes the image anew, and Spark sends its bytes once for all calls of one query. Of several values ask
  `signature(content)`, which decodes once.
* Memory: Spark sends a task batches of files, which a function cannot make smaller from inside. They are bounded by
  `spark.sql.execution.arrow.maxBytesPerBatch` (64 MB by default in Spark 4.1) and `...maxRecordsPerBatch` (10,000 rows,
  whatever they hold); `register` logs a warning where the session bounds neither.

`make` gives the functions with other settings: those of `extract`, as for `dedup_spark.run`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql.functions import pandas_udf  # type: ignore[attr-defined]  # its overloads know no struct by DDL

from dedup_spark.config import ExtractSettings, load_config
from dedup_spark.kernels import vectors
from dedup_spark.spark.session import setting_of
from dedup_spark.stages.reading import contents

log = logging.getLogger(__name__)

_BIGINT, _INT, _STRING, _BINARY = T.LongType(), T.IntegerType(), T.StringType(), T.BinaryType()
"""Types as objects: those written as DDL need a session, and workers import this module without one."""
_REJECTED: dict[str, T.DataType] = {"reject_reason": _STRING, "reject_message": _STRING}
_SIGNATURE: dict[str, T.DataType] = {
    "pixel_hash": _STRING, "phash": _BIGINT, "dhash": _BIGINT, "width_px": _INT, "height_px": _INT, "format": _STRING,
    "thumbnail": _BINARY,
}  # fmt: skip
_INTEGERS: dict[T.DataType, Any] = {_BIGINT: "Int64", _INT: "Int32"}
"""Of pandas, with nulls; its own int64 becomes float64 beside a null."""
_WIDEST_BATCH_ROWS, _LARGEST_BATCH_BYTES = 256, 256 * 2**20
_BATCH_ROWS, _BATCH_BYTES = "spark.sql.execution.arrow.maxRecordsPerBatch", "spark.sql.execution.arrow.maxBytesPerBatch"


@dataclass(frozen=True)
class Functions:
    """The functions with one set of settings. Each takes columns and gives a column.

    Attributes:
        phash: `phash(content)`: struct<value: bigint, reject_reason: string, reject_message: string>; 64 bits, as in
            `features.phash`: those of `imagehash.phash`, but of what is seen where that differs from the pixels of the
            file (transparency, a profile other than sRGB, deep values), of the described frame of several, and of the
            reduced picture from a shorter side of 1,536 px on.
        dhash: `dhash(content)`: the same struct, with the bits of `imagehash.dhash` of the same picture.
        pixel_hash: `pixel_hash(content)`: struct<value: string, ...>; equal for lossless copies in other formats,
            of all frames.
        thumbnail: `thumbnail(content)`: struct<value: binary, ...>; a JPEG, upright, longest side
            `extract.thumbnail_px`.
        signature: `signature(content)`: all of these from one decoding, with size and format: struct<pixel_hash, phash,
            dhash, width_px, height_px, format, thumbnail, reject_reason, reject_message>.
        embed: `embed(content, model, weights, weights_sha256)`, of which the last three may be left out: struct<value:
            binary, model_id: string, reject_reason: string, reject_message: string>. The value is as in
            `features.embedding`: a unit vector, little-endian float16. `model` is a name of `extract.embedding`;
            `weights` a URI that executors reach, for models that are not installed. The model runs on the GPU that
            the task holds (`spark.task.resource.gpu.amount`), else on the CPU, and is loaded once per worker.
        hamming: `hamming(a, b)`: int, in how many of 64 bits two hashes differ; null where one is null. Not a pandas
            UDF: pandas makes float64 of a BIGINT column with nulls, which loses bits, and Spark has `bit_count(a ^ b)`.
        cosine: `cosine(a, b)`: float; of embeddings as BINARY (`features.embedding`, `embed(content).value`) or as
            arrays of numbers; null where one is null. Vectors of two lengths are of two models and raise ValueError.
    """

    phash: Any
    dhash: Any
    pixel_hash: Any
    thumbnail: Any
    signature: Any
    embed: Any
    hamming: Any
    cosine: Any


def make(settings: Mapping[str, Any] | None = None) -> Functions:
    """The functions with `settings`: `{"extract.embedding": "sscd"}`; other sections change nothing here.

    Raises:
        ConfigError: with all settings that are wrong.
    """
    return _made(load_config(given=settings).extract)


def register(spark: SparkSession, settings: Mapping[str, Any] | None = None, prefix: str = "") -> list[str]:
    """Give the functions names in SQL, for this session; returns the names, each `prefix` and the function's own.

    A warning is logged where the session lets a task have more than 256 files and more than 256 MB at a time.

    Raises:
        ConfigError: as `make`.
    """
    made, names = make(settings), []
    for field in fields(made):
        name = f"{prefix}{field.name}"
        if field.name == "hamming":
            body = "(a BIGINT, b BIGINT) RETURNS INT RETURN bit_count(a ^ b)"
            spark.sql(f"CREATE OR REPLACE TEMPORARY FUNCTION `{name}`{body}")
        else:
            spark.udf.register(name, getattr(made, field.name))
        names.append(name)
    _warn_of_wide_batches(spark)
    return names


def _hamming(a: Column | str, b: Column | str) -> Column:
    first, second = (F.col(c) if isinstance(c, str) else c for c in (a, b))
    return F.bit_count(first.bitwiseXOR(second))


def _made(extract: ExtractSettings) -> Functions:
    return Functions(
        phash=_of_content(_BIGINT, "phash", extract),
        dhash=_of_content(_BIGINT, "dhash", extract),
        pixel_hash=_of_content(_STRING, "pixel_hash", extract),
        thumbnail=_of_content(_BINARY, "thumbnail", extract),
        signature=_signature(extract),
        embed=_embed(extract),
        hamming=_hamming,
        cosine=_cosine(),
    )


def _of_content(value_type: T.DataType, part: str, extract: ExtractSettings) -> Any:
    def of_content(content: pd.Series) -> pd.DataFrame:
        return _frame(contents.parts_of(content, (part,), extract), {"value": (part, value_type)})

    of_content.__name__ = part  # as plans and error messages name it
    return pandas_udf(of_content, _struct({"value": value_type}))


def _signature(extract: ExtractSettings) -> Any:
    def signature(content: pd.Series) -> pd.DataFrame:
        rows = contents.parts_of(content, tuple(_SIGNATURE), extract)
        return _frame(rows, {name: (name, kind) for name, kind in _SIGNATURE.items()})

    return pandas_udf(signature, _struct(_SIGNATURE))


def _embed(extract: ExtractSettings) -> Any:
    def embed(
        content: pd.Series,
        model: pd.Series = None,  # type: ignore[assignment]  # pandas_udf takes no other hint
        weights: pd.Series = None,  # type: ignore[assignment]
        weights_sha256: pd.Series = None,  # type: ignore[assignment]
    ) -> pd.DataFrame:
        rows = _embedded(content, (model, weights, weights_sha256), extract)
        return _frame(rows, {"value": ("embedding", _BINARY), "model_id": ("model_id", _STRING)})

    return pandas_udf(embed, _struct({"value": _BINARY, "model_id": _STRING}))


def _embedded(
    content: pd.Series, choices: tuple[pd.Series | None, ...], extract: ExtractSettings
) -> Iterator[dict[str, Any]]:
    """Rows in the order of `content`; files of one model are embedded together, whatever their places."""
    chosen = list(zip(*([None] * len(content) if c is None else c for c in choices), strict=True))
    rows: list[dict[str, Any]] = [{}] * len(content)
    for choice in dict.fromkeys(chosen):
        places = [i for i, other in enumerate(chosen) if other == choice]
        with_model = contents.choice_of(extract, *choice)
        for i, row in zip(places, contents.embeddings_of(content.iloc[places], with_model), strict=True):
            rows[i] = row
    return iter(rows)


def _cosine() -> Any:
    def cosine(a: pd.Series, b: pd.Series) -> pd.Series:
        is_known = (a.notna() & b.notna()).to_numpy()
        found = pd.Series(np.full(len(a), np.nan), dtype="Float32")
        found[:] = pd.NA
        if is_known.any():
            both = _vectors(pd.concat([a[is_known], b[is_known]]))
            found[is_known] = vectors.cosines(*np.split(both, 2))
        return found

    return pandas_udf(cosine, T.FloatType())


def _vectors(column: pd.Series) -> Any:
    """(n, d) float32: BINARY is little-endian float16, or arrays of numbers. Raises ValueError where d differs."""
    rows = [np.frombuffer(v, "<f2") if isinstance(v, bytes | bytearray) else v for v in column]
    lengths = sorted({len(row) for row in rows})
    if len(lengths) > 1:
        raise ValueError(f"vectors of {lengths[0]} and {lengths[-1]} dimensions are of two models: they have no cosine")
    return np.array(rows, np.float32)


def _struct(values: dict[str, T.DataType]) -> T.StructType:
    return T.StructType([T.StructField(name, kind) for name, kind in (values | _REJECTED).items()])


def _frame(rows: Iterator[dict[str, Any]], values: dict[str, tuple[str, T.DataType]]) -> pd.DataFrame:
    """The columns of a struct: `values` names for each the key in `rows` and the type; integers stay integers."""
    done = list(rows)
    columns = values | {name: (name, kind) for name, kind in _REJECTED.items()}
    return pd.DataFrame(
        {
            name: pd.Series([row.get(key) for row in done], dtype=_INTEGERS.get(kind, "object"))
            for name, (key, kind) in columns.items()
        }
    )


def _warn_of_wide_batches(spark: SparkSession) -> None:
    n_rows, n_bytes = int(setting_of(spark, _BATCH_ROWS) or 0), _bytes_of(setting_of(spark, _BATCH_BYTES))
    if 0 < n_rows <= _WIDEST_BATCH_ROWS or 0 < n_bytes <= _LARGEST_BATCH_BYTES:
        return
    log.warning(
        "%s is %s, and no limit in bytes is below 256 MB: a Python worker may get so many files at once; set it to 64, "
        "or %s to 64m", _BATCH_ROWS, f"{n_rows:,}", _BATCH_BYTES,
    )  # fmt: skip


def _bytes_of(text: str | None) -> int:
    """The bytes that a setting of Spark's names, as 67108864, 64MB or 64m; 0 where there is none."""
    number, unit = re.fullmatch(r"(\d*)\s*([kmgtp]?)b?", (text or "").lower().strip()).groups()  # type: ignore[union-attr]
    return int(number or 0) << 10 * " kmgtp".index(unit or " ")


_plain = make()
phash, dhash, pixel_hash, thumbnail = _plain.phash, _plain.dhash, _plain.pixel_hash, _plain.thumbnail
signature, embed, hamming, cosine = _plain.signature, _plain.embed, _plain.hamming, _plain.cosine
"""The functions with the default settings: see `Functions`."""

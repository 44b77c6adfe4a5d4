"""A table of the user with one vector per image, whose vectors become the embeddings (`extract.embedding=table`).

It has a column that names the image (its image_id, or its address and, in a container, the member) and one with the
vector: an array of numbers, or bytes of little-endian float16 or float32. Addresses get their canonical spelling
(`addresses.canonical`), so that any spelling finds its image; relative ones count from the lake.

Cost: Spark reads the two or three columns on executors; Python spells and converts each batch there, 5 to 15 us per
vector of 512 numbers, and nothing is collected but the lengths of 1,000 vectors.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from dedup_spark.columns import Columns
from dedup_spark.config import MAX_DIMENSIONS, MIN_DIMENSIONS, VectorsSettings
from dedup_spark.errors import ConfigError
from dedup_spark.kernels.given_vectors import FAULTS, to_embeddings
from dedup_spark.models.registry import TABLE
from dedup_spark.sources import addresses, spark_reader

CATALOG = "catalog"
"""The value of `vectors.format` for a table that a catalog names."""

BY_ID = Columns("image_id bigint, embedding binary, fault string")
BY_ADDRESS = Columns("uri string, member string, embedding binary, fault string")
"""What `VectorTable.embeddings` gives. `embedding` is as in features; null where there is a `fault` (VectorFault)."""

_FORMATS = {".orc": "orc", ".json": "json", ".jsonl": "json", ".ndjson": "json", ".avro": "avro"}
_KEYS, _MEMBERS, _VECTORS = ("image_id", "uri"), ("member",), ("embedding", "vector")
_SEEN_ROWS = 1000
_LITERAL = "^(s3|gs)://"
"""Addresses that are canonical as they are: see `addresses.canonical`."""


def model_id_of(settings: VectorsSettings, n_dimensions: int) -> str:
    """The model_id of the user's vectors: `table/<their name of the model>/<dimensions>`."""
    return f"{TABLE}/{settings.model.strip()}/{n_dimensions}"


def dimensions_of(model_id: str) -> int:
    """Those that `model_id_of` wrote."""
    return int(model_id.rpartition("/")[2])


def require_vectors(settings: VectorsSettings) -> None:
    """Raise ConfigError unless there is something at `vectors.table`, as far as a driver can tell without Spark."""
    if settings.format == CATALOG:
        return
    by_spark = (
        "a table of a catalog, and a place that Spark alone reaches, need vectors.format=catalog and a name that "
        "Spark's SQL takes: main.lake.vectors, or delta.`s3://bucket/vectors`"
    )
    try:
        kind = addresses.kind_of(addresses.to_uri(settings.table))
    except ConfigError as e:
        raise ConfigError(f"vectors.table {e}; {by_spark}") from e
    if kind is None:
        raise ConfigError(f"vectors.table {settings.table}: no such file or table; {by_spark}")


@dataclass(frozen=True)
class VectorTable:
    """The columns of a user's table: `rows` has `key` (bigint or string), `member` (string) and `vector`.

    `dtype`: of the numbers in a vector of bytes; None for arrays of numbers.
    """

    rows: DataFrame
    settings: VectorsSettings
    has_addresses: bool
    dtype: str | None

    @functools.cached_property
    def n_dimensions(self) -> int:
        """As `vectors.dimensions` says, else that of most of the first rows. A query of a thousand rows.

        Raises:
            ConfigError: there is no vector, or its dimensions are out of range.
        """
        if self.settings.dimensions:
            return self.settings.dimensions
        length = F.octet_length("vector") if self.dtype else F.size("vector")
        per_number = np.dtype(self.dtype).itemsize if self.dtype else 1
        with spark_reader.listing_errors(self.settings.table):
            seen = self.rows.where("vector IS NOT NULL").select(length.alias("n")).limit(_SEEN_ROWS).collect()
        if not seen:
            raise ConfigError(f"vectors.table {self.settings.table}: it holds no vector")
        counts = Counter(row["n"] // per_number for row in seen)
        most = min(counts, key=lambda n: (-counts[n], n))
        if not MIN_DIMENSIONS <= most <= MAX_DIMENSIONS:
            raise ConfigError(
                f"vectors.table {self.settings.table}: its vectors have {most} dimensions; expected "
                f"{MIN_DIMENSIONS} to {MAX_DIMENSIONS}"
            )
        return most

    @property
    def model_id(self) -> str:
        return model_id_of(self.settings, self.n_dimensions)

    def embeddings(self, n_dimensions: int, folder: str) -> DataFrame:
        """BY_ADDRESS or BY_ID, a row for each row with a key; lazy. Relative addresses count from `folder`."""
        convert = functools.partial(_convert, n_dimensions=n_dimensions, dtype=self.dtype)
        keyed = self.rows.where("key IS NOT NULL")
        if not self.has_addresses:
            rows = keyed.select(F.col("key").alias("image_id"), "vector")
            return rows.mapInArrow(functools.partial(_by_id, convert=convert), BY_ID.ddl)
        rows = keyed.select(F.col("key").alias("uri"), "member", "vector")
        return rows.mapInArrow(functools.partial(_by_address, convert=convert, folder=folder), BY_ADDRESS.ddl)


def content_of(spark: SparkSession, settings: VectorsSettings) -> str:
    """A text that is another one where the rows of the table of `settings` may have changed.

    By the names, sizes, times and numbers of rows of its data files; for a view, which has no files, by its rows, in
    one more pass. Raises ConfigError as open_vectors.
    """
    rows = _read(spark, settings)
    try:
        parts = rows.select("_metadata.file_path", "_metadata.file_size", "_metadata.file_modification_time")
    except AnalysisException:
        parts = open_vectors(spark, settings).rows.select(F.xxhash64("key", "member", "vector").alias("row"))
    counted = parts.groupBy(*parts.columns).agg(F.count("*").alias("n"))
    with spark_reader.listing_errors(settings.table):
        seen = counted.agg(F.sum("n").alias("n"), F.bit_xor(F.xxhash64(*counted.columns)).alias("hash")).first()
    assert seen is not None
    return f"{settings.table} {seen['n']} {seen['hash']}"


def open_vectors(spark: SparkSession, settings: VectorsSettings) -> VectorTable:
    """The table of `settings`; its schema is read, no row.

    Raises:
        ConfigError: no such table, it cannot be read, or the columns are not there or not of the kind needed.
    """
    rows = _read(spark, settings)
    fields = {field.name: field for field in rows.schema}
    key = _find(fields, settings.key_column, _KEYS, "vectors.key_column", settings.table)
    vector = _find(fields, settings.vector_column, _VECTORS, "vectors.vector_column", settings.table)
    has_addresses = _names_addresses(key, settings.table)
    dtype = _dtype(vector, settings)
    known = {"key": spark_reader.column(key.name), "member": F.lit(None).cast("string"),
             "vector": _numbers(vector)}  # fmt: skip
    if settings.member_column or any(name in fields for name in _MEMBERS):
        member = _find(fields, settings.member_column, _MEMBERS, "vectors.member_column", settings.table)
        text = spark_reader.column(member.name).cast("string")
        known["member"] = F.when(text != "", text)
    if not has_addresses:
        known["key"] = known["key"].cast("bigint")
    return VectorTable(rows.select(*[c.alias(name) for name, c in known.items()]), settings, has_addresses, dtype)


def _read(spark: SparkSession, settings: VectorsSettings) -> DataFrame:
    if settings.format == CATALOG:
        try:
            return spark.table(settings.table)
        except PySparkException as e:
            raise ConfigError(f"vectors.table {settings.table}: {spark_reader.first_line(e)}") from e
    require_vectors(settings)
    uri = addresses.to_uri(settings.table)
    return spark_reader.load(spark, [uri], _format(uri) if settings.format == "auto" else settings.format)


def _format(uri: str) -> str:
    if addresses.kind_of(f"{uri}/_delta_log") == "folder":
        return "delta"
    name = uri.lower().removesuffix(".gz").removesuffix(".bz2")
    return next((kind for ending, kind in _FORMATS.items() if name.endswith(ending)), "parquet")


def _find(
    fields: dict[str, T.StructField], asked: str, usual: tuple[str, ...], setting: str, table: str
) -> T.StructField:
    """The column asked for, else the first usual one. Raises ConfigError."""
    found = next((fields[name] for name in ([asked] if asked else usual) if name in fields), None)
    if found is None:
        wanted = f"'{asked}'" if asked else " or ".join(f"'{name}'" for name in usual)
        raise ConfigError(
            f"vectors.table {table}: there is no column {wanted}; the columns are: {', '.join(fields)}; name one by "
            f"{setting}"
        )
    return found


def _names_addresses(key: T.StructField, table: str) -> bool:
    """Whether the key is an address; else it is an image_id. Raises ConfigError."""
    if isinstance(key.dataType, T.IntegralType):
        return False
    if isinstance(key.dataType, T.StringType):
        return True
    raise ConfigError(
        f"vectors.table {table}: column '{key.name}' is {key.dataType.simpleString()}; expected a whole number (the "
        "image_id) or a text (the address): name another by vectors.key_column"
    )


def _dtype(vector: T.StructField, settings: VectorsSettings) -> str | None:
    """Of the numbers in bytes; None for an array. Raises ConfigError."""
    kind, origin = vector.dataType, f"vectors.table {settings.table}: column '{vector.name}'"
    if isinstance(kind, T.ArrayType) and isinstance(kind.elementType, T.NumericType):
        return None
    if not isinstance(kind, T.BinaryType):
        raise ConfigError(
            f"{origin} is {kind.simpleString()}; expected an array of numbers or bytes: name another by "
            "vectors.vector_column"
        )
    if settings.numbers == "auto":
        raise ConfigError(f"{origin} holds bytes: say by vectors.numbers whether they are float16 or float32")
    return {"float16": "<f2", "float32": "<f4"}[settings.numbers]


def _numbers(vector: T.StructField) -> Column:
    """The column with arrays as float or double; whole numbers and decimals become double."""
    column, kind = spark_reader.column(vector.name), vector.dataType
    is_array_of_others = isinstance(kind, T.ArrayType) and not isinstance(kind.elementType, T.FractionalType)
    is_decimal = isinstance(kind, T.ArrayType) and isinstance(kind.elementType, T.DecimalType)
    return column.cast("array<double>") if is_array_of_others or is_decimal else column


# --- on executors -----------------------------------------------------------------------------------------


def _by_id(
    batches: Iterable[pa.RecordBatch], convert: functools.partial[tuple[pa.Array, pa.Array]]
) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        columns = [batch.column("image_id"), *convert(batch.column("vector"))]
        yield pa.RecordBatch.from_arrays(columns, schema=BY_ID.arrow)


def _by_address(
    batches: Iterable[pa.RecordBatch], convert: functools.partial[tuple[pa.Array, pa.Array]], folder: str
) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        columns = [_spelled(batch.column("uri"), folder), batch.column("member"), *convert(batch.column("vector"))]
        yield pa.RecordBatch.from_arrays(columns, schema=BY_ADDRESS.arrow)


def _spelled(uris: pa.Array, folder: str) -> pa.Array:
    if pc.all(pc.match_substring_regex(uris, _LITERAL)).as_py():
        return uris
    return pa.array([addresses.canonical(uri, folder) for uri in uris.to_pylist()], pa.string())


def _convert(vectors: pa.Array, n_dimensions: int, dtype: str | None) -> tuple[pa.Array, pa.Array]:
    """Embeddings as in features, null where a vector cannot be used, and the reason where it cannot."""
    values, lengths = _of_bytes(vectors, dtype) if dtype else _of_arrays(vectors)
    made, faults = to_embeddings(values, lengths, n_dimensions)
    data = pa.py_buffer(np.ascontiguousarray(made, "<f2"))
    rows = pa.FixedSizeBinaryArray.from_buffers(pa.binary(2 * n_dimensions), len(made), [None, data]).cast(pa.binary())
    none = pa.scalar(None, pa.binary())
    return pc.if_else(pa.array(faults == 0), rows, none), pa.array(FAULTS, pa.string()).take(pa.array(faults))


def _of_arrays(vectors: pa.Array) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.int64]]:
    """The numbers of all arrays, NaN for a null, and the length of each; -1 for a null."""
    lengths = pc.fill_null(pc.list_value_length(vectors), -1).to_numpy(zero_copy_only=False).astype(np.int64)
    return vectors.flatten().to_numpy(zero_copy_only=False), lengths


def _of_bytes(vectors: pa.Array, dtype: str) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.int64]]:
    """The same of bytes; where these are no whole number of numbers, the vector counts as one without numbers."""
    size = np.dtype(dtype).itemsize
    texts = [text if text is None or len(text) % size == 0 else b"" for text in vectors.to_pylist()]
    lengths = np.array([-1 if text is None else len(text) // size for text in texts], np.int64)
    return np.frombuffer(b"".join(text for text in texts if text), dtype), lengths

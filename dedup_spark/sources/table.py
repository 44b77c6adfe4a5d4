"""A table that holds the images themselves: Parquet files or a Delta table with a column of bytes.

The column is `inventory.bytes_column`, or else the only one that is BINARY or, as Hugging Face writes it, a struct
with a BINARY field `bytes` (and often `path`). The listing does not read it. An image's uri is the table's root, and
its member is `<data file>#<row>` or the value of `inventory.key_column` (`image.path` for a field of the struct); with
a key an image keeps its identity when the table is rewritten. `location` and `position` are the data file and the row
in it; `modified_at` is that of the file, so that a rewritten file is read again. Other simple columns go to
`attributes`.

A null gets a row too, and extract rejects it as `missing`. Of a Delta table the newest version is read; rows deleted by
deletion vectors are not listed; column mapping is refused, because the columns have other names inside the files.
Partition columns of plain Parquet stand only in the path, and so in the member.

Cost: the driver knows every data file of the table (about 1 KB each). The listing reads the other columns, and a key
column is checked for duplicates by one shuffle of its values. Fetching reads each data file's bytes column once,
front to back, if rows are asked for in about that order.
"""

from __future__ import annotations

import functools
import posixpath
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql.pandas.types import to_arrow_schema

from dedup_spark.errors import ConfigError
from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.sources import addresses, parquet_rows, spark_reader
from dedup_spark.sources.base import Address, Listed

PARQUET_SUFFIXES = (".parquet", ".pq", ".parq")
_SIMPLE = (T.StringType, T.NumericType, T.BooleanType, T.DateType, T.TimestampType, T.TimestampNTZType)


@dataclass(frozen=True)
class TableSource(Listed):
    """`lake` is a Parquet file, a folder of them (at any depth) or a Delta table, by path or URI."""

    lake: str
    bytes_column: str = ""
    key_column: str = ""

    @functools.cached_property
    def root(self) -> str:
        uri = addresses.to_uri(self.lake)
        if addresses.kind_of(uri) is None:
            raise ConfigError(f"table {self.lake}: no such file or folder")
        return uri

    def list_images(self, spark: SparkSession) -> DataFrame:
        rows = self._read(spark)
        holder = self._bytes_path(rows.schema)[0]
        key = self._key(rows)
        file = addresses.from_hadoop(_percent_decoded(F.col("_metadata.file_path")), self.root)
        place = F.concat(_below(file, self.root), F.lit("#"), F.col("_metadata.row_index"))
        return spark_reader.listing(
            rows,
            uri=F.lit(self.root),
            member=place if key is None else F.coalesce(key, place),
            location=file,
            position=F.col("_metadata.row_index"),
            modified_at=F.col("_metadata.file_modification_time"),
            attributes=spark_reader.text_map(_attributes(rows.schema, holder)),
        )

    def fetch(self, address: Address) -> bytes:
        location, position = address.location, address.position
        if location is None or position is None:
            raise ImageRejected("missing", "this image was not listed as a row of a table; run inventory again")
        data = parquet_rows.read_value(location, position, self.bytes_column)
        if data is None:
            raise ImageRejected("missing", f"the bytes column is null in row {position:,} of {location}")
        return data

    def _read(self, spark: SparkSession) -> DataFrame:
        if is_delta(self.root):
            _refuse_column_mapping(spark, self.root)
            return _with_row_numbers(spark, spark_reader.load(spark, [self.root], "delta"), self.root)
        if addresses.kind_of(self.root) == "file":
            return spark_reader.load(spark, [self.root], "parquet")
        names = "*{" + ",".join(PARQUET_SUFFIXES) + "}"
        return spark_reader.load(spark, [self.root], "parquet", recursiveFileLookup=True, pathGlobFilter=names)

    def _bytes_path(self, schema: T.StructType) -> tuple[str, ...]:
        try:
            return parquet_rows.find_bytes(to_arrow_schema(schema), self.bytes_column)
        except LookupError as e:
            raise ConfigError(f"table {self.lake}: {e}") from e

    def _key(self, rows: DataFrame) -> Column | None:
        """The key column as text. Raises ConfigError when there is no such column, or its values are not distinct."""
        if not self.key_column:
            return None
        name, _, field = self.key_column.partition(".")
        if name not in rows.columns:
            raise ConfigError(f"table {self.lake}: no key column '{name}'; the columns are: {', '.join(rows.columns)}")
        key = spark_reader.column(name)[field] if field else spark_reader.column(name)
        key = key.cast("string")
        twice = rows.where(key.isNotNull()).groupBy(key.alias("key")).count().where("count > 1").orderBy("key").take(3)
        if twice:
            found = ", ".join(f"'{row['key']}' in {row['count']:,} rows" for row in twice)
            raise ConfigError(
                f"table {self.lake}: inventory.key_column '{self.key_column}' does not tell the images apart: {found}; "
                "choose another, or leave it empty for file and row number"
            )
        return key


def is_delta(root: str) -> bool:
    return addresses.kind_of(f"{root}/_delta_log") == "folder"


def _attributes(schema: T.StructType, holder: str) -> dict[str, Column]:
    texts = {f.name: spark_reader.as_text(f) for f in schema if isinstance(f.dataType, _SIMPLE)}
    struct = schema[holder].dataType
    if isinstance(struct, T.StructType) and "path" in struct.names:
        texts[f"{holder}.path"] = spark_reader.column(holder)["path"].cast("string")
    return texts


def _percent_decoded(path: Column) -> Column:
    """Decode `_metadata.file_path`, which is escaped as in a URI; a plus sign in it is a plus sign."""
    return F.url_decode(F.replace(path, F.lit("+"), F.lit("%2B")))


def _below(file: Column, root: str) -> Column:
    """The file's path relative to the root, or to the folder of a root that is the file itself."""
    path = F.regexp_replace(file, "^[^:]+://[^/]*/", "")
    below = addresses.split_store(root)[1]
    inside = F.when(path.startswith(f"{below}/"), F.substring(path, len(below) + 2, 2**31 - 1))
    return F.coalesce(inside, F.when(path == below, F.lit(posixpath.basename(below))), file)


def _with_row_numbers(spark: SparkSession, rows: DataFrame, root: str) -> DataFrame:
    """Rows with `_metadata.row_index`. Delta has it only where there may be deletion vectors: else read its files."""
    if "row_index" in rows.select("_metadata.*").columns:
        return rows
    files = [addresses.file_uri(path) for path in rows.inputFiles()]
    if not files:
        raise ConfigError(f"table {root}: it has no rows")
    return spark_reader.load(spark, files, "parquet", basePath=addresses.to_hadoop(spark, root, literal=False))


def _refuse_column_mapping(spark: SparkSession, root: str) -> None:
    path = addresses.to_hadoop(spark, root, literal=False).replace("`", "``")
    detail = spark.sql(f"DESCRIBE DETAIL delta.`{path}`").select("properties").first()
    mode = (detail["properties"] or {}).get("delta.columnMapping.mode", "none") if detail else "none"
    if mode != "none":
        raise ConfigError(
            f"table {root}: Delta column mapping ({mode}) gives the columns other names inside the files, which are "
            "read directly; write the images to a table without it"
        )

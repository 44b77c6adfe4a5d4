"""A table that holds the images themselves: Parquet files or a Delta table with a column of bytes.

The column is `inventory.bytes_column`, or else the only one that is BINARY, of variable or fixed length, or, as Hugging
Face writes it, a struct with a BINARY field `bytes` (and often `path`); a column of text holds Base64. Where the bytes
are null and the path is not, the image is read from that path, which counts from the data file's folder, or else from
the table's. The listing does not read the column. An image's uri is the table's root, and
its member is `<data file>#<row>` or the value of `inventory.key_column` (`image.path` for a field of the struct); with
a key an image keeps its identity when the table is rewritten. `location` and `position` are the data file and the row
in it; `modified_at` is that of the file, so that a rewritten file is read again. Other simple columns go to
`attributes`.

A null without a path gets a row too, and extract rejects it as `missing`. Of a Delta table the newest version is read;
rows deleted by deletion vectors are not listed; column mapping is refused, because the columns have other names inside
the files. Partition columns of plain Parquet stand only in the path, and so in the member. Lists of images are refused.

Cost: the driver knows every data file of the table (about 1 KB each). The listing reads the other columns, and a key
column is checked for duplicates by one shuffle of its values. Fetching reads each data file's bytes column once,
front to back, if rows are asked for in about that order.
"""

from __future__ import annotations

import functools
import os
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from dedup_spark.errors import ConfigError
from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.sources import addresses, names, parquet_rows, spark_reader
from dedup_spark.sources.base import Address, Listed
from dedup_spark.sources.limits import MOST_BYTES
from dedup_spark.sources.objects import read_object
from dedup_spark.sources.random_access import WatchedFile, open_bytes, require_small_footer
from dedup_spark.vocabulary import RejectReason

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

    @functools.cached_property
    def _home(self) -> str:
        """The folder of the table, below which paths beside null bytes may lead."""
        return self.root if addresses.kind_of(self.root) == "folder" else self.root.rpartition("/")[0]

    def list_images(self, spark: SparkSession) -> DataFrame:
        rows = self._read(spark)
        holder = self._bytes_path()[0]
        file = addresses.from_hadoop(_percent_decoded(F.col("_metadata.file_path")), self.root)
        place = F.concat(_below(file, self.root), F.lit("#"), F.col("_metadata.row_index"))
        return spark_reader.listing(
            rows,
            uri=F.lit(self.root),
            member=self._names(rows, place),
            location=file,
            position=F.col("_metadata.row_index"),
            modified_at=F.col("_metadata.file_modification_time"),
            attributes=spark_reader.text_map(_attributes(rows.schema, holder)),
        )

    def fetch(self, address: Address, max_bytes: int = MOST_BYTES) -> bytes:
        location, position = address.location, address.position
        if location is None or position is None:
            raise ImageRejected("missing", "this image was not listed as a row of a table; run inventory again")
        data = parquet_rows.read_value(location, position, self.bytes_column, max_bytes)
        return self._read_by_path(location, position, max_bytes) if data is None else data

    def _read_by_path(self, location: str, row: int, max_bytes: int) -> bytes:
        """The object at the path that stands beside null bytes."""
        said = f"the bytes column is null in row {row:,} of {location}"
        path = parquet_rows.read_path(location, row, self.bytes_column)
        if not path:
            raise ImageRejected("missing", said)
        if path.lower().startswith(("http://", "https://")):
            raise ImageRejected("missing", f"{said}, and nothing is fetched from the web: {path}")
        beside, below = (self._inside(path, folder) for folder in (location.rpartition("/")[0], self.root))
        try:
            return read_object(beside, max_bytes=max_bytes)
        except ImageRejected as e:
            if e.reason != RejectReason.MISSING or below == beside:
                raise
            return read_object(below, max_bytes=max_bytes)

    def _inside(self, path: str, folder: str) -> str:
        """The address of a path that counts from `folder`. Whoever writes a table may write any path into it, and must
        not read with it what else this job may read: one that leads out of the folder of the table is `forbidden`."""
        found = addresses.canonical(path, folder)
        if not found.startswith(f"{self._home}/"):
            raise ImageRejected("forbidden", f"the path beside null bytes leads out of {self._home}")
        return found

    def _read(self, spark: SparkSession) -> DataFrame:
        if is_delta(self.root):
            _refuse_column_mapping(spark, self.root)
            return _with_row_numbers(spark, spark_reader.load(spark, [self.root], "delta"), self.root)
        if addresses.kind_of(self.root) == "file":
            return spark_reader.load(spark, [self.root], "parquet")
        names = "*{" + ",".join(PARQUET_SUFFIXES) + "}"
        return spark_reader.load(spark, [self.root], "parquet", recursiveFileLookup=True, pathGlobFilter=names)

    def _bytes_path(self) -> tuple[str, ...]:
        try:
            return parquet_rows.find_bytes(schema_of(self.root), self.bytes_column)
        except LookupError as e:
            raise ConfigError(f"table {self.lake}: {e}") from e

    def _names(self, rows: DataFrame, place: Column) -> Column:
        """The members: values of the key column, and `place` where that is null or none is set.

        Raises ConfigError when there is no such column, or its values are not distinct.
        """
        if not self.key_column:
            return place
        name, _, field = self.key_column.partition(".")
        if name not in rows.columns:
            raise ConfigError(f"table {self.lake}: no key column '{name}'; the columns are: {', '.join(rows.columns)}")
        key = spark_reader.column(name)[field] if field else spark_reader.column(name)
        member = F.coalesce(key.cast("string"), place)
        twice = rows.groupBy(member.alias("key")).count().where("count > 1").orderBy("key").take(3)
        if twice:
            found = ", ".join(f"'{row['key']}' in {row['count']:,} rows" for row in twice)
            raise ConfigError(
                f"table {self.lake}: inventory.key_column '{self.key_column}' does not tell the images apart: {found}; "
                "choose another, or leave it empty for file and row number"
            )
        return member


def schema_of(uri: str) -> pa.Schema:
    """The schema of a Parquet file, or of the first one in a folder or Delta table, as Arrow reads it."""
    file = first_file(uri)
    try:
        with open_bytes(file) as f:
            watched = WatchedFile(f)
            require_small_footer(watched, file)
            return pq.read_schema(watched)
    except (ImageRejected, OSError, pa.ArrowException) as e:
        raise ConfigError(f"{file}: cannot be read as Parquet: {e}") from e


def first_file(uri: str) -> str:
    """The Parquet file itself, or the first one in the folder. Raises ConfigError where there is none."""
    file = uri if addresses.kind_of(uri) == "file" else next(_parquet_files(uri), None)
    if file is None:
        raise ConfigError(f"lake {uri}: no such file, or a folder without Parquet files")
    return file


def _parquet_files(folder: str) -> Iterator[str]:
    if addresses.is_remote(folder):
        filesystem, path = addresses.open_store(folder)
        found = ((top, files) for top, _, files in filesystem.walk(path))
    else:
        path = addresses.to_path(folder)
        found = ((names.to_text(top), map(names.to_text, files)) for top, _, files in os.walk(path))
    for top, files in found:
        for name in sorted(files):
            if name.lower().endswith(PARQUET_SUFFIXES) and not name.startswith((".", "_")) and "_delta_log" not in top:
                yield f"{folder}{top.removeprefix(names.to_text(path.rstrip('/')))}/{name}"


def is_delta(root: str) -> bool:
    return addresses.kind_of(f"{root}/_delta_log") == "folder"


def _attributes(schema: T.StructType, holder: str) -> dict[str, Column]:
    texts = {f.name: spark_reader.as_text(f) for f in schema if isinstance(f.dataType, _SIMPLE) and f.name != holder}
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

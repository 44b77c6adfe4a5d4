"""A manifest: a CSV file, Parquet files or a Delta table that names the images, one per row, in a column `uri`.

Other known columns are `size_bytes`, `modified_at` (ISO 8601, a timestamp, or seconds), `etag`, `member`, and
`position`, the byte at which the image begins inside the object (with `size_bytes` it describes a member of an
uncompressed container). All further columns are kept as text in `attributes`. A fact that does not parse is unknown.

Addresses are literal: nothing is %-decoded, spaces are part of them. Relative ones count from the folder that the
manifest lies in. Each gets its canonical spelling (`addresses.canonical`), so that several rows for one object are one
image, however they spell it; local paths and links become the file that they lead to. One that leads out of the folder
of the manifest is `outside_lake`, and read only below `inventory.allowed_prefixes` (`boundary.py`). A row without an
address, with one of more than 16,384 characters or with a `position` that is no byte of an object, and a CSV line with
more or fewer values than the header, is not dropped: it becomes an image at the manifest's own address that extract
rejects as `missing`, with the row in its attributes.

CSV is RFC 4180, with line breaks in quoted values, as spreadsheet programs write it: UTF-8, UTF-16 or Latin, with
commas, semicolons, tabs or bars (`csv_layout.py`), also in gzip, bzip2 or xz.

Two members of one object that bear one name and have two positions are two images (`member_names.py`).

Cost: tasks read the manifest (`csv_files.py`, or Spark), Python spells each batch of addresses there, and nothing is
collected. With `member` and `position` there is one shuffle of the rows.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from dedup_spark.errors import ConfigError
from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.sources import addresses, spark_reader
from dedup_spark.sources.base import Address, Listed
from dedup_spark.sources.boundary import require_inside
from dedup_spark.sources.csv_files import CsvColumns, header_of, load_csv
from dedup_spark.sources.limits import MOST_BYTES
from dedup_spark.sources.member_names import named_apart
from dedup_spark.sources.objects import read_object
from dedup_spark.sources.spelling import spelled_canonically

CSV_SUFFIXES = tuple(f".{kind}{packed}" for kind in ("csv", "tsv") for packed in ("", ".gz", ".bz2", ".xz"))
_KNOWN = ("uri", "member", "position", "size_bytes", "modified_at", "etag")
_NO_URI = "row without a uri"
_LONG_URI, _ODD_POSITION = "row whose uri is longer than any address", "row whose position is no byte of an object"
_LONGEST_URI, _SHOWN_CHARACTERS = 16_384, 1000
"""Of characters: S3 takes keys of 1,024 bytes, Linux paths of 4,096, and web servers URLs of some thousand."""


@dataclass(frozen=True)
class ManifestSource(Listed):
    """`lake` is the path or URI of the manifest, `allowed` where its rows may lead besides the folder it lies in."""

    lake: str
    allowed: tuple[str, ...] = ()

    @functools.cached_property
    def root(self) -> str:
        uri = addresses.to_uri(self.lake)
        if addresses.kind_of(uri) is None:
            raise ConfigError(f"manifest {self.lake}: no such file or table")
        return uri

    def list_images(self, spark: SparkSession) -> DataFrame:
        rows, problem = self._read(spark)
        fields = {field.name.strip().lower(): field for field in rows.schema if field.name != problem}
        known = {name: spark_reader.column(fields[name].name) for name in _KNOWN if name in fields}
        others = {f.name: spark_reader.as_text(f) for name, f in fields.items() if name not in _KNOWN}
        uri = known["uri"].cast("string")
        found = F.lit(None) if problem is None else spark_reader.column(problem)
        wrong = F.coalesce(found, _problem_of(uri, known.get("position")))
        has_uri = wrong.isNull()
        digest = F.xxhash64(F.to_json(F.struct(*[spark_reader.column(field.name) for field in rows.schema])))
        modified_at = F.lit(None)
        if "modified_at" in fields:
            modified_at = spark_reader.as_time(known["modified_at"], fields["modified_at"].dataType)
        size_bytes = spark_reader.as_whole(known.get("size_bytes", F.lit(None)))
        own_member = known.get("member", F.lit(None)).cast("string")
        if "position" in known:  # a part of an object is not the object itself
            own_member = F.coalesce(own_member, F.concat(F.lit("@"), spark_reader.as_whole(known["position"])))
        listing = spark_reader.listing(
            rows,
            uri=F.when(has_uri, uri).otherwise(F.lit(self.root)),
            member=F.when(has_uri, own_member).otherwise(F.concat_ws(" ", wrong, digest.cast("string"))),
            position=F.when(has_uri, spark_reader.as_whole(known.get("position", F.lit(None)))),
            size_bytes=F.when(size_bytes >= 0, size_bytes),
            modified_at=modified_at,
            etag=spark_reader.unquoted(known.get("etag", F.lit(None))),
            attributes=spark_reader.text_map(
                {**others, "uri": F.when(~has_uri & (F.trim(uri) != ""), F.left(uri, F.lit(_SHOWN_CHARACTERS)))}
            ),
        )
        spelled = spelled_canonically(listing, self.root.rpartition("/")[0])
        return named_apart(spelled) if {"member", "position"} <= known.keys() else spelled

    def as_of(self) -> datetime | None:
        """When the manifest was last written: it does not know what was removed since."""
        return addresses.last_written(self.root)

    def fetch(self, address: Address, max_bytes: int = MOST_BYTES) -> bytes:
        if address.uri == self.root:
            what = (address.member or _NO_URI).rpartition(" ")[0]
            said = "this row of the manifest gives no uri" if what == _NO_URI else f"in the manifest a {what}"
            raise ImageRejected("missing", f"{said}; what it holds is in attributes")
        require_inside(address.uri, self.root.rpartition("/")[0], self.allowed)
        if address.position is None:
            return read_object(address.uri, max_bytes=max_bytes)
        return read_object(address.uri, address.position, address.size_bytes, max_bytes=max_bytes)

    def _read(self, spark: SparkSession) -> tuple[DataFrame, str | None]:
        """The rows, and which column says what is wrong with one; of Parquet and Delta none does."""
        if not self.root.lower().endswith(CSV_SUFFIXES):
            kind = "delta" if addresses.kind_of(f"{self.root}/_delta_log") == "folder" else "parquet"
            rows = spark_reader.load(spark, [self.root], kind)
            self._require_addresses(rows.schema.fields)
            return rows, None
        header = header_of(self.root)
        self._require_one_of_each(header)
        columns = CsvColumns.of(header)
        self._require_addresses([T.StructField(name, T.StringType()) for name in columns.header])
        return load_csv(spark, self.root, columns), columns.problem

    def _require_one_of_each(self, header: Sequence[str]) -> None:
        """Raise ConfigError where two columns of a header bear one of the names that have a meaning."""
        lower = [name.lower() for name in header]
        for name in _KNOWN:
            if lower.count(name) > 1:
                places = " and ".join(f"{i:,} ('{header[i - 1]}')" for i, n in enumerate(lower, 1) if n == name)
                raise ConfigError(
                    f"manifest {self.lake}: columns {places} of the header are both '{name}', in any case of letters: "
                    "rename or drop one"
                )

    def _require_addresses(self, fields: Sequence[T.StructField]) -> None:
        """Raise ConfigError where no column, or no single value of one, is an address."""
        named = next((f for f in fields if f.name.strip().lower() == "uri"), None)
        if named is None:
            found = ", ".join(field.name for field in fields)
            raise ConfigError(
                f"manifest {self.lake}: there is no column 'uri'; the columns are: {found}. "
                f"{_hint(fields) or 'Give that name to the column that holds the addresses'}"
            )
        if isinstance(named.dataType, T.ArrayType | T.MapType | T.StructType):
            kind = named.dataType.simpleString()
            raise ConfigError(
                f"manifest {self.lake}: the column '{named.name}' holds {kind}, not one address per row; explode it"
            )


def _problem_of(uri: Column, position: Column | None) -> Column:
    """What is wrong with a row's address; null where nothing is. A part that is nowhere is not the whole object."""
    found = F.when(F.coalesce(F.trim(uri), F.lit("")) == "", _NO_URI).when(F.length(uri) > _LONGEST_URI, _LONG_URI)
    if position is None:
        return found
    text = F.lower(F.trim(position.cast("string")))
    is_given = F.coalesce(~text.isin("", "nan"), F.lit(False))
    return found.when(is_given & ~F.coalesce(spark_reader.as_whole(position) >= 0, F.lit(False)), _ODD_POSITION)


def _hint(fields: Sequence[T.StructField]) -> str:
    """What to do with columns that hold images in a way that is not read."""
    lists = [f.name for f in fields if isinstance(f.dataType, T.ArrayType)]
    if not lists:
        return ""
    return f"If {' or '.join(lists)} holds lists of images: these are not read; write one image per row (explode)"

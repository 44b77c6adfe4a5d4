"""A manifest: a CSV file, Parquet files or a Delta table that names the images, one per row, in a column `uri`.

Other known columns are `size_bytes`, `modified_at` (ISO 8601, a timestamp, or seconds), `etag`, `member`, and
`position`, the byte at which the image begins inside the object (with `size_bytes` it describes a member of an
uncompressed container). All further columns are kept as text in `attributes`. A fact that does not parse is unknown.

Addresses are literal: nothing is %-decoded, spaces are part of them. Relative ones count from the folder that the
manifest lies in. Each gets its canonical spelling (`addresses.canonical`), so that several rows for one object are one
image, however they spell it; local paths and links become the file that they lead to. A row without a uri, and a CSV
line with more or fewer fields than the header (a line break inside quotes makes two such lines), is not dropped: it
becomes an image at the manifest's own address that extract rejects as `missing`, with the row in its attributes.

Cost: Spark reads the manifest on executors, Python spells each batch of addresses there, and nothing is collected. A
CSV file in gzip is one task, a plain one is a task per 128 MB.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from datetime import datetime

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dedup_spark.errors import ConfigError
from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.sources import addresses, spark_reader
from dedup_spark.sources.base import Address, Listed
from dedup_spark.sources.objects import read_object
from dedup_spark.sources.spelling import spelled_canonically

CSV_SUFFIXES = (".csv", ".csv.gz", ".csv.bz2")
_KNOWN = ("uri", "member", "position", "size_bytes", "modified_at", "etag")
_NO_URI = "row without a uri "
_MALFORMED = "malformed_line"


@dataclass(frozen=True)
class ManifestSource(Listed):
    """`lake` is the path or URI of the manifest."""

    lake: str

    @functools.cached_property
    def root(self) -> str:
        uri = addresses.to_uri(self.lake)
        if addresses.kind_of(uri) is None:
            raise ConfigError(f"manifest {self.lake}: no such file or table")
        return uri

    def list_images(self, spark: SparkSession) -> DataFrame:
        rows = self._read(spark)
        fields = {field.name.strip().lower(): field for field in rows.schema}
        if "uri" not in fields:
            found = ", ".join(field.name for field in rows.schema)
            raise ConfigError(f"manifest {self.lake}: there is no column 'uri'; the columns are: {found}")
        known = {name: spark_reader.column(fields[name].name) for name in _KNOWN if name in fields}
        others = {f.name: spark_reader.as_text(f) for name, f in fields.items() if name not in _KNOWN}
        uri = known["uri"].cast("string")
        has_uri = F.coalesce(F.trim(uri) != "", F.lit(False))
        if _MALFORMED in others:
            has_uri &= others[_MALFORMED].isNull()
        digest = F.xxhash64(F.to_json(F.struct(*[spark_reader.column(field.name) for field in rows.schema])))
        modified_at = F.lit(None)
        if "modified_at" in fields:
            modified_at = spark_reader.as_time(known["modified_at"], fields["modified_at"].dataType)
        own_member = known.get("member", F.lit(None)).cast("string")
        if "position" in known:  # a part of an object is not the object itself
            own_member = F.coalesce(own_member, F.concat(F.lit("@"), known["position"].try_cast("bigint")))
        listing = spark_reader.listing(
            rows,
            uri=F.when(has_uri, uri).otherwise(F.lit(self.root)),
            member=F.when(has_uri, own_member).otherwise(F.concat(F.lit(_NO_URI), digest)),
            position=known.get("position", F.lit(None)),
            size_bytes=known.get("size_bytes", F.lit(None)).try_cast("double"),  # pandas writes 12 as 12.0
            modified_at=modified_at,
            etag=spark_reader.unquoted(known.get("etag", F.lit(None))),
            attributes=spark_reader.text_map(others),
        )
        return spelled_canonically(listing, self.root.rpartition("/")[0])

    def as_of(self) -> datetime | None:
        """When the manifest was last written: it does not know what was removed since."""
        return addresses.last_written(self.root)

    def fetch(self, address: Address) -> bytes:
        if (address.member or "").startswith(_NO_URI):
            raise ImageRejected("missing", "this row of the manifest gives no uri; what it holds is in attributes")
        if address.position is None:
            return read_object(address.uri)
        return read_object(address.uri, address.position, address.size_bytes)

    def _read(self, spark: SparkSession) -> DataFrame:
        if self.root.lower().endswith(CSV_SUFFIXES):
            options = {"header": True, "escape": '"'}
            header = spark_reader.load(spark, [self.root], "csv", **options).schema
            schema = header.add(_MALFORMED, "string")
            return spark_reader.load(
                spark, [self.root], "csv", schema=schema, columnNameOfCorruptRecord=_MALFORMED, **options
            )
        is_delta = addresses.kind_of(f"{self.root}/_delta_log") == "folder"
        return spark_reader.load(spark, [self.root], "delta" if is_delta else "parquet")

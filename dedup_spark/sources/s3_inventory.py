"""An S3 Inventory report: the listing of a bucket that S3 itself writes, daily or weekly; nothing is listed again.

The lake is a report's `manifest.json`, or the folder of the inventory's configuration with its dated reports
(`.../<bucket>/<configuration>/`), of which the newest is used. Give the folder to follow a bucket from day to day:
images that are gone are found by comparing listings of the same lake. In versioned buckets only the latest version
counts, unless it is a delete marker. Folder markers (empty, name ending in `/`) and hidden keys are passed over and
counted.

A report is refused when a data file is missing or is not the one that manifest.json describes (size, MD5). Where S3
gives no MD5 as ETag, that check reads the data files once more.

Spark reads the data files (CSV, Parquet or ORC) on executors: from the destination bucket named in the report when
manifest.json is on S3, else beside it: `<some parent folder>/<key>`, or in its own folder.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from dedup_spark.errors import ConfigError, SourceError
from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.sources import addresses, spark_reader
from dedup_spark.sources.base import Address, Listed
from dedup_spark.sources.boundary import require_inside
from dedup_spark.sources.limits import MOST_BYTES
from dedup_spark.sources.objects import read_object
from dedup_spark.sources.other_files import without_other_kinds
from dedup_spark.sources.passed_over import FOLDER_MARKER, HIDDEN_FILE
from dedup_spark.sources.patience import ask_patiently
from dedup_spark.spark.local_relation import local_relation

MANIFEST_NAME = "manifest.json"
_NEEDED = frozenset({"destinationBucket", "fileFormat", "fileSchema", "files"})
_BLOCK_BYTES = 4 * 2**20
_MOST_REPORT_BYTES = 2**28
"""Of manifest.json, which the driver reads whole: 256 MiB, as of a million data files."""
_NO_KEY = "row without a bucket or a key"
_REPORT_FOLDER = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\dZ")


@dataclass(frozen=True)
class S3InventorySource(Listed):
    """`lake` is the path or URI of manifest.json, or of the folder with the dated reports."""

    has_own_etags = True
    lake: str
    skip_hidden: bool = True
    allowed: tuple[str, ...] = ()
    """Where rows may lead besides the bucket that the report is of."""

    @functools.cached_property
    def root(self) -> str:
        uri = addresses.to_uri(self.lake)
        if addresses.kind_of(uri) is None:
            raise ConfigError(f"S3 inventory {self.lake}: no such file or folder")
        return uri

    def as_of(self) -> datetime | None:
        """When S3 began the report: it does not know what has happened since."""
        created = _read_report(self._report).get("creationTimestamp")
        try:
            return datetime.fromtimestamp(int(created) / 1000, UTC) if created else None
        except (ValueError, TypeError, OverflowError, OSError):
            raise ConfigError(f"{self._report}: creationTimestamp {created!r} is no time in milliseconds") from None

    @functools.cached_property
    def _report(self) -> str:
        """The manifest.json; in a folder the newest one."""
        uri = self.root if addresses.kind_of(self.root) == "file" else newest_report(self.root)
        if uri is None:
            raise ConfigError(f"S3 inventory {self.lake}: no report such as 2026-11-23T01-00Z/{MANIFEST_NAME} in it")
        return uri

    def list_images(self, spark: SparkSession) -> DataFrame:
        uri = self._report
        report = _read_report(uri)
        rows = _read_data(spark, uri, report)
        columns = {name.lower().replace("_", ""): spark_reader.column(name) for name in rows.columns}
        if not {"bucket", "key"} <= columns.keys():
            raise ConfigError(f"{uri}: the report needs the columns Bucket and Key; it has {', '.join(rows.columns)}")
        key = columns["key"]
        if report["fileFormat"] == "CSV":  # only in CSV are keys URL-encoded, with + for a space
            key = F.coalesce(F.try_url_decode(key), key)
        rows = rows.where(_is_current(columns)).withColumn("decoded_key", key)
        size_bytes = columns.get("size", F.lit(None)).cast("bigint")
        has_key = F.coalesce((columns["bucket"] != "") & (F.col("decoded_key") != ""), F.lit(False))
        of_object = F.concat(F.lit("s3://"), columns["bucket"], F.lit("/"), "decoded_key")
        digest = F.xxhash64(*map(spark_reader.column, rows.columns))
        is_marker = F.col("decoded_key").endswith("/") & (F.coalesce(size_bytes, F.lit(0)) == 0)
        is_hidden = F.col("decoded_key").rlike(r"(^|/)\.") if self.skip_hidden else F.lit(False)
        passed_over = F.when(is_marker, FOLDER_MARKER).when(is_hidden, HIDDEN_FILE)
        storage_class = {"storage_class": columns["storageclass"]} if "storageclass" in columns else {}
        listing = spark_reader.listing(
            rows,
            uri=F.when(has_key, of_object).otherwise(self.root),
            member=F.when(~has_key, F.concat_ws(" ", F.lit(_NO_KEY), digest.cast("string"))),
            size_bytes=F.when(size_bytes >= 0, size_bytes),
            modified_at=columns.get("lastmodifieddate", F.lit(None)),
            etag=spark_reader.unquoted(columns.get("etag", F.lit(None))),
            attributes=spark_reader.text_map(storage_class),
            passed_over=passed_over,
            n_passed_over=F.when(passed_over.isNotNull(), 1),
        )
        return without_other_kinds(listing)

    @functools.cached_property
    def _bucket(self) -> str:
        """The bucket that the report is of; the place of the report where it does not say."""
        named = _read_report(self._report).get("sourceBucket")
        return f"s3://{named}" if named else self.root.rpartition("/")[0]

    def fetch(self, address: Address, max_bytes: int = MOST_BYTES) -> bytes:
        if address.uri == self.root and (address.member or "").startswith(_NO_KEY):
            raise ImageRejected("missing", "this row of the inventory names no object")
        require_inside(address.uri, self._bucket, self.allowed)
        return read_object(address.uri, etag=address.etag, max_bytes=max_bytes)


def newest_report(folder: str) -> str | None:
    """The manifest.json of the newest dated report in a folder, by its name; None when there is none."""
    filesystem, path = addresses.open_store(folder)
    entries = filesystem.ls(path, detail=True, refresh=True)
    names = [facts["name"].rstrip("/").rpartition("/")[2] for facts in entries]
    for name in sorted(filter(_REPORT_FOLDER.fullmatch, names), reverse=True):
        uri = f"{folder}/{name}/{MANIFEST_NAME}"
        if addresses.kind_of(uri) == "file":  # else the report is being written
            return uri
    return None


def _read_report(uri: str) -> dict[str, Any]:
    try:
        filesystem, path = addresses.open_store(uri)
        text = filesystem.cat_file(path, start=0, end=_MOST_REPORT_BYTES + 1)
        if len(text) > _MOST_REPORT_BYTES:
            raise ValueError(f"it has more than {_MOST_REPORT_BYTES:,} bytes")
        report: dict[str, Any] = json.loads(text)
        missing = _NEEDED - report.keys()
    except (OSError, ValueError, AttributeError, RecursionError) as e:
        raise ConfigError(f"{uri}: cannot be read as the manifest of an S3 inventory: {e}") from e
    if missing or not _describes_files(report):
        found = f"{', '.join(sorted(missing))} missing" if missing else "it describes no data files as S3 does"
        raise ConfigError(
            f"{uri}: not the manifest of an S3 inventory, or one without data: {found}; give the manifest.json that "
            "S3 wrote beside its reports"
        )
    return report


def _describes_files(report: dict[str, Any]) -> bool:
    """Whether what is needed of a report, which a person may have edited, is of the kinds that S3 writes."""
    files = report["files"]
    texts = [report[name] for name in _NEEDED - {"files"}]
    return isinstance(files, list) and bool(files) and all(map(_is_file, files)) and all(map(_is_text, texts))


def _is_file(described: Any) -> bool:
    if not isinstance(described, dict) or not _is_text(described.get("key")):
        return False
    size, md5 = described.get("size"), described.get("MD5checksum")
    return isinstance(size, int | None) and isinstance(md5, str | None)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _read_data(spark: SparkSession, uri: str, report: dict[str, Any]) -> DataFrame:
    keys = [file["key"] for file in report["files"]]
    place = _place_of_data(uri, report["destinationBucket"], keys[0])
    files = [f"{place}/{key}" if place else f"{uri.rpartition('/')[0]}/{key.rpartition('/')[2]}" for key in keys]
    _require_whole(spark, files, report["files"])
    file_format = report["fileFormat"].lower()
    if file_format != "csv":
        return spark_reader.load(spark, files, file_format)
    schema = ", ".join(f"`{name.strip()}` string" for name in report["fileSchema"].split(","))
    return spark_reader.load(spark, files, "csv", schema=schema, escape='"', mode="FAILFAST")


def _require_whole(spark: SparkSession, uris: list[str], described: list[dict[str, Any]]) -> None:
    """Check the data files on executors, as they may be thousands. Raises SourceError when one is not as described."""
    rows = [(uri, file.get("size"), file.get("MD5checksum")) for uri, file in zip(uris, described, strict=True)]
    files = local_relation(spark, rows, "uri string, size_bytes bigint, md5 string")
    n_tasks = min(len(rows), 16 * spark.sparkContext.defaultParallelism)
    with spark_reader.listing_errors(uris[0]):
        files.repartition(n_tasks).mapInArrow(_check_files, "n_checked bigint").agg(F.sum("n_checked")).collect()


def _check_files(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        for file in batch.to_pylist():
            _check_file(**file)
        yield pa.RecordBatch.from_pydict({"n_checked": [batch.num_rows]}, pa.schema([("n_checked", pa.int64())]))


def _check_file(uri: str, size_bytes: int | None, md5: str | None) -> None:
    try:
        path = addresses.open_store(uri)[1]
        facts = ask_patiently(lambda: addresses.open_store(uri)[0].info(path), uri)
        if size_bytes is not None and facts["size"] != size_bytes:
            raise SourceError(_not_whole(uri, f"{facts['size']:,} bytes long", f"{size_bytes:,}"))
        if md5 and str(facts.get("ETag")).strip('"').lower() != md5.lower():  # S3 often gives the MD5 as ETag
            found = ask_patiently(lambda: _md5_of(addresses.open_store(uri)[0], path), uri)
            if found != md5.lower():
                raise SourceError(_not_whole(uri, f"of MD5 {found}", md5))
    except FileNotFoundError as e:
        raise SourceError(_not_whole(uri, "not there", "that it belongs to it")) from e


def _md5_of(filesystem: Any, path: str) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with filesystem.open(path, "rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _not_whole(uri: str, found: str, expected: str) -> str:
    return (
        f"{uri}: this data file of the S3 inventory is {found}, but its manifest.json says {expected}: the listing is "
        "not whole, so nothing was changed; copy the report again, or wait for the next one"
    )


def _place_of_data(uri: str, destination: str, first_key: str) -> str | None:
    """The folder or bucket that the keys of the data files count from; None when they lie beside manifest.json."""
    if uri.startswith(("s3://", "s3a://", "s3n://")):
        return f"s3://{destination.rpartition(':')[2]}"
    for folder in _parents(uri):
        if addresses.kind_of(f"{folder}/{first_key}") == "file":
            return folder
    if addresses.kind_of(f"{uri.rpartition('/')[0]}/{first_key.rpartition('/')[2]}") == "file":
        return None
    raise ConfigError(f"{uri}: its data file {first_key} is in none of the folders above it, nor beside it")


def _parents(uri: str) -> Iterator[str]:
    store, path = addresses.split_store(uri)
    while path:
        path = path.rpartition("/")[0]
        yield f"{store}/{path}".rstrip("/")


def _is_current(columns: dict[str, Column]) -> Column:
    latest = columns.get("islatest", F.lit(None)).cast("boolean")
    deleted = columns.get("isdeletemarker", F.lit(None)).cast("boolean")
    return F.coalesce(latest, F.lit(True)) & ~F.coalesce(deleted, F.lit(False))

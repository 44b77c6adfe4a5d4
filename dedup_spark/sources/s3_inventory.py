"""An S3 Inventory report: the listing of a bucket that S3 itself writes, daily or weekly; nothing is listed again.

The lake is a report's `manifest.json`, or the folder of the inventory's configuration with its dated reports
(`.../<bucket>/<configuration>/`), of which the newest is taken: give the folder to follow a bucket from day to day,
as images that are gone are found by comparing listings of the same lake. Of versioned buckets only the latest
version counts, and not where it is a delete marker. Folder markers (empty, name ending in `/`) are left out.

The data files (CSV, Parquet or ORC) are read by Spark on executors: from the destination bucket named in the report
when manifest.json is on S3, else beside it: `<some parent folder>/<key>`, or in its own folder.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from dedup_spark.errors import ConfigError
from dedup_spark.sources import addresses, spark_reader
from dedup_spark.sources.base import Address
from dedup_spark.sources.objects import read_object

MANIFEST_NAME = "manifest.json"
_REPORT_FOLDER = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\dZ")


@dataclass(frozen=True)
class S3InventorySource:
    """`lake` is the path or URI of manifest.json, or of the folder with the dated reports."""

    lake: str
    skip_hidden: bool = True

    @functools.cached_property
    def root(self) -> str:
        uri = addresses.to_uri(self.lake)
        if addresses.kind_of(uri) is None:
            raise ConfigError(f"S3 inventory {self.lake}: no such file or folder")
        return uri

    def list_images(self, spark: SparkSession) -> DataFrame:
        uri = self.root if addresses.kind_of(self.root) == "file" else newest_report(self.root)
        if uri is None:
            raise ConfigError(f"S3 inventory {self.lake}: no report such as 2026-11-23T01-00Z/{MANIFEST_NAME} in it")
        report = _read_report(uri)
        rows = _read_data(spark, uri, report)
        columns = {name.lower().replace("_", ""): spark_reader.column(name) for name in rows.columns}
        if not {"bucket", "key"} <= columns.keys():
            raise ConfigError(f"{uri}: the report needs the columns Bucket and Key; it has {', '.join(rows.columns)}")
        key = columns["key"]
        if report["fileFormat"] == "CSV":  # only there are keys URL-encoded, with + for a space
            key = F.coalesce(F.try_url_decode(key), key)
        rows = rows.where(_is_current(columns)).withColumn("decoded_key", key)
        size_bytes = columns.get("size", F.lit(None)).cast("bigint")
        is_marker = F.col("decoded_key").endswith("/") & (F.coalesce(size_bytes, F.lit(0)) == 0)
        is_hidden = F.col("decoded_key").rlike(r"(^|/)\.") if self.skip_hidden else F.lit(False)
        storage_class = {"storage_class": columns["storageclass"]} if "storageclass" in columns else {}
        return spark_reader.listing(
            rows.where(~is_marker & ~is_hidden),
            uri=F.concat(F.lit("s3://"), columns["bucket"], F.lit("/"), "decoded_key"),
            size_bytes=size_bytes,
            modified_at=columns.get("lastmodifieddate", F.lit(None)),
            etag=spark_reader.unquoted(columns.get("etag", F.lit(None))),
            attributes=spark_reader.text_map(storage_class),
        )

    def fetch(self, address: Address) -> bytes:
        return read_object(address.uri)


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
        report: dict[str, Any] = json.loads(filesystem.cat_file(path))
        missing = {"destinationBucket", "fileFormat", "fileSchema", "files"} - report.keys()
    except (OSError, ValueError, AttributeError) as e:
        raise ConfigError(f"{uri}: cannot be read as the manifest of an S3 inventory: {e}") from e
    if missing or not report["files"]:
        raise ConfigError(f"{uri}: not the manifest of an S3 inventory, or one without data: no {missing or 'files'}")
    return report


def _read_data(spark: SparkSession, uri: str, report: dict[str, Any]) -> DataFrame:
    keys = [file["key"] for file in report["files"]]
    place = _place_of_data(uri, report["destinationBucket"], keys[0])
    files = [f"{place}/{key}" if place else f"{uri.rpartition('/')[0]}/{key.rpartition('/')[2]}" for key in keys]
    file_format = report["fileFormat"].lower()
    if file_format != "csv":
        return spark_reader.load(spark, files, file_format)
    schema = ", ".join(f"`{name.strip()}` string" for name in report["fileSchema"].split(","))
    return spark_reader.load(spark, files, "csv", schema=schema, escape='"', mode="FAILFAST")


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

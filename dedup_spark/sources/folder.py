"""A folder, recursively, on the local disk or any filesystem that fsspec knows (s3, abfss, gs, hdfs, ...).

The driver looks only at the folders near the root, until there are enough to share out; executors list the
trees below them. Memory does not grow with a folder on a disk or in S3, whose pages of 1,000 keys are passed on
as they come; other stores give a whole folder at once. One flat folder is one task: at about ten pages a second
100 M objects under one S3 prefix take three hours, so give such a lake as an S3 Inventory or a manifest.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T

from dedup_spark.errors import ConfigError
from dedup_spark.local_relation import local_relation
from dedup_spark.sources import addresses, names
from dedup_spark.sources.base import LISTING_ARROW, LISTING_SCHEMA, Address
from dedup_spark.sources.objects import read_object

log = logging.getLogger(__name__)

_ROWS_PER_BATCH = 4096
_MAX_ENTRIES_LOOKED_AT = 200_000
"""In one folder, by the driver: about 20 s of listing in S3. A larger folder goes to one executor as it is."""
_FOLDERS = T.StructType().add("path", T.StringType()).add("recursive", T.BooleanType())
"""Rows of what executors list. No DDL: that takes a JVM to parse, and to list a folder takes none."""
Entry = tuple[str, bool, int, datetime | None, str | None, dict[str, str] | None]
"""One name in a folder: path, is_folder, size_bytes, modified_at, etag, attributes."""


@dataclass(frozen=True)
class FolderSource:
    """`lake` is a path or a URI; `file:` and plain paths are read without fsspec."""

    lake: str
    skip_hidden: bool = True

    @functools.cached_property
    def root(self) -> str:
        uri = addresses.to_uri(self.lake)
        if addresses.kind_of(uri) != "folder":
            raise ConfigError(f"lake {self.lake}: no such folder")
        return uri

    def list_images(self, spark: SparkSession) -> DataFrame:
        whole, trees = self._share_out(self.root, wanted=4 * spark.sparkContext.defaultParallelism)
        rows = [(path, False) for path in whole] + [(path, True) for path in trees]
        folders = local_relation(spark, rows, _FOLDERS).repartition(len(rows))
        return folders.mapInArrow(self._list_folders, LISTING_SCHEMA)

    def fetch(self, address: Address) -> bytes:
        return read_object(address.uri)

    def _share_out(self, root: str, wanted: int) -> tuple[list[str], list[str]]:
        """Folders to list without what is below them, and disjoint trees that hold all the rest."""
        whole: list[str] = []
        unlooked: list[str] = []
        trees = [root]
        while trees and len(trees) + len(unlooked) < wanted:
            below: list[str] = []
            for folder in trees:
                found = self._folders_in(folder)
                if found is None:
                    unlooked.append(folder)
                else:
                    whole.append(folder)
                    below += found
            trees = below
            if len(whole) > 16 * wanted:  # a chain of nearly empty folders: enough looked at
                break
        return whole, trees + unlooked

    def _folders_in(self, folder: str) -> list[str] | None:
        """The folders directly in `folder`; None when it has too many entries for the driver to look through."""
        found = []
        for n_entries, entry in enumerate(self._entries(folder)):
            if n_entries >= _MAX_ENTRIES_LOOKED_AT:
                return None
            if entry[1]:
                found.append(entry[0])
        return found

    def _list_folders(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """On executors: rows (path, recursive) to rows of LISTING_SCHEMA."""
        found: list[Entry] = []
        for batch in batches:
            for row in batch.to_pylist():
                for entry in self._walk(row["path"]) if row["recursive"] else self._files(row["path"]):
                    found.append(entry)
                    if len(found) >= _ROWS_PER_BATCH:
                        yield _to_arrow(found)
                        found = []
        yield _to_arrow(found)

    def _files(self, folder: str) -> Iterator[Entry]:
        return (e for e in self._entries(folder) if not e[1])

    def _walk(self, folder: str) -> Iterator[Entry]:
        waiting = [folder]
        while waiting:
            for entry in self._entries(waiting.pop()):
                if entry[1]:
                    waiting.append(entry[0])
                else:
                    yield entry

    def _entries(self, folder: str) -> Iterator[Entry]:
        listing = _remote_entries(folder) if addresses.is_remote(folder) else _local_entries(folder)
        for entry in listing:
            if not (self.skip_hidden and entry[0].rsplit("/", 1)[-1].startswith(".")):
                yield entry


def _local_entries(folder: str) -> Iterator[Entry]:
    with os.scandir(addresses.to_path(folder)) as entries:
        for entry in entries:
            uri = f"{folder}/{names.to_text(entry.name)}"
            if entry.is_dir(follow_symlinks=False):
                yield uri, True, 0, None, None, None
            elif _leads_to_a_folder(entry):
                log.warning("%s: link to a folder, not followed", uri)
            else:
                yield (uri, False, *_local_facts(entry), None, None)


def _leads_to_a_folder(link: os.DirEntry[str]) -> bool:
    try:
        return link.is_dir()
    except OSError:  # a loop, or behind a closed door: a row; reading it gives the reason
        return False


def _local_facts(entry: os.DirEntry[str]) -> tuple[int, datetime | None]:
    try:
        facts = entry.stat()
    except OSError:  # a dangling link, or gone since: still a row; reading it gives the reason
        return 0, None
    return facts.st_size, datetime.fromtimestamp(facts.st_mtime_ns // 1000 / 1e6, UTC)


def _remote_entries(folder: str) -> Iterator[Entry]:
    filesystem, path = addresses.open_store(folder)
    if hasattr(filesystem, "call_s3"):
        yield from _s3_entries(filesystem, folder)
        return
    for facts in filesystem.ls(path, detail=True, refresh=True):
        name = facts["name"].rstrip("/").rsplit("/", 1)[-1]
        if facts["name"].rstrip("/") == path.rstrip("/"):
            continue  # some stores list a folder marker inside the folder
        uri = f"{folder}/{name}"
        if facts["type"] == "directory":
            yield uri, True, 0, None, None, None
        else:
            etag = _etag(facts.get("ETag") or facts.get("etag"))
            yield uri, False, facts["size"] or 0, _modified_at(facts), etag, None


def _s3_entries(filesystem: Any, folder: str) -> Iterator[Entry]:
    """Page by page, where `S3FileSystem.ls` would hold the whole folder; keys such as `a//b` keep their form."""
    bucket, below_bucket, path = folder.partition("://")[2].partition("/")
    folder_prefix = f"{path}/" if below_bucket else ""
    request = {"Bucket": bucket, "Prefix": folder_prefix, "Delimiter": "/"}
    while True:
        page = filesystem.call_s3("list_objects_v2", **request)
        for below in page.get("CommonPrefixes", []):
            uri = f"{folder}/{below['Prefix'].removeprefix(folder_prefix).removesuffix('/')}"
            yield uri, True, 0, None, None, None
        for facts in page.get("Contents", []):
            name = facts["Key"].removeprefix(folder_prefix)
            if name or facts["Size"]:  # else it is the folder's own empty marker
                etag, attributes = _etag(facts.get("ETag")), _storage_class(facts)
                yield f"{folder}/{name}", False, facts["Size"], facts["LastModified"], etag, attributes
        if not page.get("IsTruncated"):
            return
        request["ContinuationToken"] = page["NextContinuationToken"]


def _storage_class(facts: dict[str, Any]) -> dict[str, str] | None:
    """Attribute `storage_class`, as an S3 Inventory has it; None for STANDARD, which needs no saying."""
    name = facts.get("StorageClass") or "STANDARD"
    return None if name == "STANDARD" else {"storage_class": name}


def _etag(quoted: str | None) -> str | None:
    return quoted.strip('"') if quoted else None


def _modified_at(facts: dict[str, Any]) -> datetime | None:
    for name in ("LastModified", "last_modified", "mtime", "updated", "created"):
        value = facts.get(name)
        if isinstance(value, datetime):
            return value if value.tzinfo else value.replace(tzinfo=UTC)
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC)
    return None


def _to_arrow(entries: list[Entry]) -> pa.RecordBatch:
    columns = ("uri", "is_folder", "size_bytes", "modified_at", "etag", "attributes")
    rows = [dict(zip(columns, entry, strict=True)) for entry in entries]
    return pa.RecordBatch.from_pylist(rows, schema=LISTING_ARROW)

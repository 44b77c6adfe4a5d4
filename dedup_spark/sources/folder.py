"""A folder, recursively, on the local disk or any filesystem that fsspec knows (s3, abfss, gs, hdfs, ...).

The driver looks only at the folders near the root, until there are enough to share out; executors list the
trees below them. A flat folder of millions of files is one task: give such a lake as a manifest instead.
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

from dedup_spark import storage
from dedup_spark.errors import ConfigError
from dedup_spark.sources import names
from dedup_spark.sources.base import LISTING_ARROW, LISTING_SCHEMA, Address
from dedup_spark.sources.objects import read_object

log = logging.getLogger(__name__)

_ROWS_PER_BATCH = 4096
Entry = tuple[str, bool, int, datetime | None, str | None]
"""One name in a folder: path, is_folder, size_bytes, modified_at, etag."""


@dataclass(frozen=True)
class FolderSource:
    """`lake` is a path or a URI; `file:` and plain paths are read without fsspec."""

    lake: str
    skip_hidden: bool = True

    @functools.cached_property
    def root(self) -> str:
        if "://" in self.lake and not self.lake.startswith("file:"):
            _require_remote_folder(self.lake)
            return self.lake.rstrip("/")
        path = "/" + self.lake.removeprefix("file:").lstrip("/") if self.lake.startswith("file:") else self.lake
        path = os.path.realpath(os.path.expanduser(path))
        if not os.path.isdir(path):
            raise ConfigError(f"lake {self.lake}: no such folder")
        return "file://" + names.to_text(path.rstrip("/"))

    def list_images(self, spark: SparkSession) -> DataFrame:
        whole, trees = self._share_out(self.root, wanted=4 * spark.sparkContext.defaultParallelism)
        rows = [(path, False) for path in whole] + [(path, True) for path in trees]
        folders = spark.createDataFrame(rows, "path string, recursive boolean").repartition(len(rows))
        return folders.mapInArrow(self._list_folders, LISTING_SCHEMA)

    def fetch(self, address: Address) -> bytes:
        return read_object(address.uri)

    def _share_out(self, root: str, wanted: int) -> tuple[list[str], list[str]]:
        """Folders to list without what is below them, and disjoint trees that hold all the rest."""
        whole: list[str] = []
        trees = [root]
        while trees and len(trees) < wanted:
            below = [e[0] for folder in trees for e in self._entries(folder) if e[1]]
            whole += trees
            trees = below
            if len(whole) > 16 * wanted:  # a chain of nearly empty folders: enough looked at
                break
        return whole, trees

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
        listing = _local_entries(folder) if folder.startswith("file:") else _remote_entries(folder)
        for entry in listing:
            if not (self.skip_hidden and entry[0].rsplit("/", 1)[-1].startswith(".")):
                yield entry


def _require_remote_folder(lake: str) -> None:
    try:
        filesystem, path = storage.open_filesystem(lake)
        if not filesystem.isdir(path):
            raise ConfigError(f"lake {lake}: no such folder")
    except (ImportError, ValueError) as e:  # no driver for the scheme, or a malformed address
        raise ConfigError(f"lake {lake}: {e}") from e
    except OSError as e:
        raise ConfigError(f"lake {lake}: cannot be listed: {e}") from e


def _local_entries(folder: str) -> Iterator[Entry]:
    with os.scandir(names.from_text(folder.removeprefix("file://"))) as entries:
        for entry in entries:
            uri = f"{folder}/{names.to_text(entry.name)}"
            if entry.is_dir(follow_symlinks=False):
                yield uri, True, 0, None, None
            elif entry.is_dir():
                log.warning("%s: link to a folder, not followed", uri)
            else:
                yield (uri, False, *_local_facts(entry), None)


def _local_facts(entry: os.DirEntry[str]) -> tuple[int, datetime | None]:
    try:
        facts = entry.stat()
    except OSError:  # a dangling link, or gone since: still a row; reading it gives the reason
        return 0, None
    return facts.st_size, datetime.fromtimestamp(facts.st_mtime_ns // 1000 / 1e6, UTC)


def _remote_entries(folder: str) -> Iterator[Entry]:
    filesystem, path = storage.open_filesystem(folder)
    for facts in filesystem.ls(path, detail=True, refresh=True):
        name = facts["name"].rstrip("/").rsplit("/", 1)[-1]
        if facts["name"].rstrip("/") == path.rstrip("/"):
            continue  # some stores list a folder marker inside the folder
        uri = f"{folder}/{name}"
        if facts["type"] == "directory":
            yield uri, True, 0, None, None
        else:
            etag = facts.get("ETag") or facts.get("etag")
            yield uri, False, facts["size"] or 0, _modified_at(facts), etag.strip('"') if etag else None


def _modified_at(facts: dict[str, Any]) -> datetime | None:
    for name in ("LastModified", "last_modified", "mtime", "updated", "created"):
        value = facts.get(name)
        if isinstance(value, datetime):
            return value if value.tzinfo else value.replace(tzinfo=UTC)
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC)
    return None


def _to_arrow(entries: list[Entry]) -> pa.RecordBatch:
    rows = [{"uri": uri, "size_bytes": size, "modified_at": at, "etag": tag} for uri, _, size, at, tag in entries]
    return pa.RecordBatch.from_pylist(rows, schema=LISTING_ARROW)

"""A folder, recursively, on the local disk or any filesystem that fsspec knows (s3, abfss, gs, hdfs, ...).

The driver lists only the folders near the root, until there are enough to share out; executors list the trees below
them. Names that begin with a dot, and links, are passed over and counted: a link to a file would be the same image
twice, and a link to a folder may lead in circles. So are files of other kinds, such as captions (`other_files.py`). A
link to nowhere, a pipe, a socket or a device becomes a row that extract rejects; none of them is ever opened. A folder
that vanishes during the listing is gone with what was in it; any other fault ends the listing with SourceError, after
five minutes of trying where it may pass.

Memory does not grow with a folder on a disk or in S3, whose pages of 1,000 keys are passed on as they come; other
stores give a whole folder at once. One flat folder is one task: at about ten pages per second, 100 M objects under one
S3 prefix take three hours, so give such a lake as an S3 Inventory or a manifest.
"""

from __future__ import annotations

import errno
import functools
import itertools
import os
import re
import socket
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from dedup_spark.columns import Columns
from dedup_spark.errors import ConfigError, SourceError
from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.kernels.decoding.other_kinds import kind_of_name
from dedup_spark.sources import addresses, names
from dedup_spark.sources.base import LISTING, Address, Listed
from dedup_spark.sources.objects import read_object
from dedup_spark.sources.other_files import other_kind
from dedup_spark.sources.passed_over import (
    BESIDE_CONTAINERS,
    HIDDEN_FILE,
    HIDDEN_FOLDER,
    LINK_TO_FILE,
    LINK_TO_FOLDER,
    PassedOver,
)
from dedup_spark.sources.patience import ask_patiently
from dedup_spark.sources.times import modified_at
from dedup_spark.spark.local_relation import local_relation
from dedup_spark.vocabulary import RejectReason

_ROWS_PER_BATCH = 4096
_MAX_DRIVER_ENTRIES = 200_000
"""Entries of one folder that the driver lists: about 20 s in S3. A larger folder goes to one executor as it is."""
_FOLDERS = Columns("path string, recursive boolean")
"""What executors are given to list; not `recursive`: without the folders below."""


class Entry(NamedTuple):
    """One name in a folder."""

    uri: str
    is_folder: bool = False
    size_bytes: int | None = None
    modified_at: datetime | None = None
    etag: str | None = None
    attributes: dict[str, str] | None = None
    file_id: str | None = None
    n_links: int | None = None
    passed_over: str | None = None


@dataclass(frozen=True)
class FolderSource(Listed):
    """`lake` is a path or a URI; `file:` and plain paths are read without fsspec."""

    has_own_etags = True
    lake: str
    skip_hidden: bool = True
    only: str = ""
    """A regular expression: files whose names it finds are listed, whatever they are, and all others passed over."""

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
        return folders.mapInArrow(self._list_folders, LISTING.ddl)

    def first_entries(self, folder: str, n: int) -> Iterator[Entry]:
        """The first `n` entries of `folder`, less those that are passed over whatever they are. The driver asks."""
        return (entry for entry in itertools.islice(self._entries(folder), n) if not entry.passed_over)

    def fetch(self, address: Address) -> bytes:
        try:
            return read_object(address.uri, etag=address.etag)
        except ImageRejected as e:
            if (
                e.reason == RejectReason.MISSING
                and not addresses.is_remote(self.root)
                and addresses.kind_of(self.root) is None
            ):
                raise OSError(errno.ENOTCONN, f"the lake {self.root} is not there: is it mounted?") from e
            raise

    def _share_out(self, root: str, wanted: int) -> tuple[list[str], list[str]]:
        """Folders to list without the folders below them, and disjoint trees that hold all the rest."""
        whole: list[str] = []
        too_large: list[str] = []
        trees = [root]
        while trees and len(trees) + len(too_large) < wanted:
            below: list[str] = []
            for folder in trees:
                found = self._folders_in(folder)
                if found is None:
                    too_large.append(folder)
                else:
                    whole.append(folder)
                    below += found
            trees = below
            if len(whole) > 16 * wanted:  # a chain of nearly empty folders: further listing gains nothing
                break
        return whole, trees + too_large

    def _folders_in(self, folder: str) -> list[str] | None:
        """The folders directly in `folder`; None when it has too many entries for the driver."""
        found = []
        for n_entries, entry in enumerate(self._entries(folder)):
            if n_entries >= _MAX_DRIVER_ENTRIES:
                return None
            if entry.is_folder and not entry.passed_over:
                found.append(entry.uri)
        return found

    def _list_folders(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """On executors: rows (path, recursive) to rows of LISTING."""
        found: list[Entry] = []
        passed_over = PassedOver()
        for batch in batches:
            for row in batch.to_pylist():
                for entry in self._walk(row["path"], recursive=row["recursive"]):
                    if reason := entry.passed_over or self._other_kind(entry):
                        passed_over.add(reason, entry.uri)
                        continue
                    found.append(entry)
                    if len(found) >= _ROWS_PER_BATCH:
                        yield _to_arrow(found)
                        found = []
        yield _to_arrow(found)
        yield passed_over.to_arrow()

    def _other_kind(self, entry: Entry) -> str | None:
        """Why a file is not listed; None where it may be an image, or is one of those that `only` names."""
        name = entry.uri.rpartition("/")[2]
        if self.only:
            return None if re.search(self.only, name) else kind_of_name(name) or BESIDE_CONTAINERS
        return other_kind(entry.uri)

    def _walk(self, folder: str, *, recursive: bool) -> Iterator[Entry]:
        """The files of a folder, or of the tree below it, and what is passed over."""
        waiting = [folder]
        while waiting:
            for entry in self._entries(waiting.pop()):
                if not entry.is_folder or entry.passed_over:
                    yield entry
                elif recursive:
                    waiting.append(entry.uri)

    def _entries(self, folder: str) -> Iterator[Entry]:
        """The entries of `folder`; none where it has vanished. Raises SourceError when it cannot be listed."""
        try:
            for entry in _remote_entries(folder) if addresses.is_remote(folder) else _local_entries(folder):
                if self.skip_hidden and entry.uri.rsplit("/", 1)[-1].startswith("."):
                    yield entry._replace(passed_over=HIDDEN_FOLDER if entry.is_folder else HIDDEN_FILE)
                else:
                    yield entry
        except (FileNotFoundError, NotADirectoryError) as e:
            if folder == self.root or addresses.kind_of(self.root) != "folder":
                raise SourceError(
                    f"lake {self.root}: vanished while it was listed; is it still mounted? Nothing was changed"
                ) from e
        except OSError as e:
            raise SourceError(
                f"{folder}: cannot be listed: {e}; what is in it is unknown, so nothing was changed: "
                "make it readable, or take it out of the lake"
            ) from e


def _local_entries(folder: str) -> Iterator[Entry]:
    host = socket.gethostname()
    with os.scandir(addresses.to_path(folder)) as entries:
        for entry in entries:
            uri = f"{folder}/{names.to_text(entry.name)}"
            if entry.is_dir(follow_symlinks=False):
                yield Entry(uri, is_folder=True)
                continue
            facts = _stat(entry)
            if facts is None:
                yield Entry(uri, size_bytes=0)
                continue
            found = Entry(uri, size_bytes=facts.st_size, modified_at=_time(facts))
            if not entry.is_symlink():
                file_id, n_links = identity_of_file(facts, host)
                yield found._replace(file_id=file_id, n_links=n_links)
            elif stat.S_ISDIR(facts.st_mode):
                yield found._replace(passed_over=LINK_TO_FOLDER)
            else:
                yield found._replace(passed_over=LINK_TO_FILE if stat.S_ISREG(facts.st_mode) else None)


def identity_of_file(facts: os.stat_result, host: str) -> tuple[str | None, int | None]:
    """`file_id` and `n_links` of a regular file; None for all else, and where a file system has no inodes."""
    if not stat.S_ISREG(facts.st_mode) or facts.st_ino == 0:
        return None, None
    return f"{host}/{facts.st_dev}:{facts.st_ino}", facts.st_nlink


def _time(facts: os.stat_result) -> datetime | None:
    """The modification time; None for one that no calendar has."""
    try:
        return datetime.fromtimestamp(facts.st_mtime_ns // 1000 / 1e6, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _stat(entry: os.DirEntry[str]) -> os.stat_result | None:
    """Facts of what an entry leads to; None where a link leads nowhere, in a circle or to what may not be read."""
    try:
        return entry.stat()
    except OSError:  # it still becomes a row, and reading it gives the reason
        return None


def _remote_entries(folder: str) -> Iterator[Entry]:
    filesystem, path = addresses.open_store(folder)
    if hasattr(filesystem, "call_s3"):
        yield from _s3_entries(folder)
        return
    for facts in ask_patiently(lambda: filesystem.ls(path, detail=True, refresh=True), folder):
        name = facts["name"].rstrip("/").rsplit("/", 1)[-1]
        if facts["name"].rstrip("/") == path.rstrip("/"):
            continue  # some stores list a folder marker inside the folder
        uri = f"{folder}/{name}"
        if facts["type"] == "directory":
            yield Entry(uri, is_folder=True)
        elif facts["type"] == "link":  # sftp and similar filesystems list links
            yield Entry(uri, passed_over=LINK_TO_FILE)
        else:
            etag = _etag(facts.get("ETag") or facts.get("etag"))
            yield Entry(uri, size_bytes=facts["size"] or 0, modified_at=modified_at(facts), etag=etag)


def _s3_entries(folder: str) -> Iterator[Entry]:
    """Entries page by page (`S3FileSystem.ls` would hold the whole folder); keys such as `a//b` keep their form."""
    bucket, below_bucket, path = folder.partition("://")[2].partition("/")
    folder_prefix = f"{path}/" if below_bucket else ""
    for page in _s3_pages(folder, Bucket=bucket, Prefix=folder_prefix, Delimiter="/"):
        for below in page.get("CommonPrefixes", []):
            uri = f"{folder}/{below['Prefix'].removeprefix(folder_prefix).removesuffix('/')}"
            yield Entry(uri, is_folder=True)
        for facts in page.get("Contents", []):
            name = facts["Key"].removeprefix(folder_prefix)
            if name or facts["Size"]:  # else it is the empty marker of the folder itself
                etag, attributes = _etag(facts.get("ETag")), _storage_class(facts)
                yield Entry(
                    f"{folder}/{name}",
                    size_bytes=facts["Size"],
                    modified_at=facts["LastModified"],
                    etag=etag,
                    attributes=attributes,
                )


def _s3_pages(folder: str, **request: str) -> Iterator[dict[str, Any]]:
    """Pages until the store says that there are no more. Raises SourceError when it does not say how to go on."""
    filesystem, _ = addresses.open_for_reading(addresses.split_store(folder)[0])  # one try: ask_patiently repeats it
    while True:
        page = ask_patiently(lambda: filesystem.call_s3("list_objects_v2", **request), folder)
        yield page
        if not page.get("IsTruncated"):
            return
        token = page.get("NextContinuationToken")
        if not token or token == request.get("ContinuationToken"):
            raise SourceError(
                f"{folder}: the store ended its listing in the middle (IsTruncated, but no new NextContinuationToken): "
                "what follows is unknown, so nothing was changed; run again, or give the lake as a manifest"
            )
        request["ContinuationToken"] = token


def _storage_class(facts: dict[str, Any]) -> dict[str, str] | None:
    """Attribute `storage_class`, as an S3 Inventory has it; None for STANDARD, the usual one."""
    name = facts.get("StorageClass") or "STANDARD"
    return None if name == "STANDARD" else {"storage_class": name}


def _etag(quoted: str | None) -> str | None:
    return quoted.strip('"') if quoted else None


_COLUMNS = ("uri", "size_bytes", "modified_at", "etag", "attributes", "file_id", "n_links")


def _to_arrow(entries: list[Entry]) -> pa.RecordBatch:
    rows = [{name: getattr(entry, name) for name in _COLUMNS} for entry in entries]
    return pa.RecordBatch.from_pylist(rows, schema=LISTING.arrow)

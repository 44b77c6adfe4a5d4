"""A folder, recursively, on the local disk or any filesystem that fsspec knows (s3, abfss, gs, hdfs, ...).

In S3 tasks list ranges of keys, in however many folders they lie (`key_ranges.py`). Elsewhere, and where S3 refuses
that, the driver lists only the folders near the root, until there are enough, and executors list the trees below them.
Names that begin with a dot, and links, are passed over and counted: a link to a file would be the same image
twice, and a link to a folder may lead in circles. So are files of other kinds, such as captions (`other_files.py`). A
link to nowhere, a pipe, a socket or a device becomes a row that extract rejects; none of them is ever opened. A folder
that vanishes during the listing is gone with what was in it. One that may not be listed, or cannot be for a fault of
its own, is passed over as a place of which the content is unknown (`passed_over.UNLISTED`); the rest is listed. A fault
of the lake itself, of a store after five minutes of trying, or of all credentials that are found ends the listing with
SourceError.

Memory does not grow with a folder on a disk or in S3, whose pages of 1,000 keys are passed on as they come; other
stores give a whole folder at once. At about ten pages a second and task, 100 M objects in S3 take three hours of one
core, and a minute of 200. One flat folder of another store is one task.
"""

from __future__ import annotations

import errno
import functools
import itertools
import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from dedup_spark.columns import Columns
from dedup_spark.errors import ConfigError, SourceError
from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.kernels.decoding.other_kinds import kind_of_name
from dedup_spark.sources import addresses
from dedup_spark.sources.base import LISTING, Address, Listed
from dedup_spark.sources.entries import Entry, local_entries, why_unlisted
from dedup_spark.sources.key_ranges import KeyRange
from dedup_spark.sources.limits import MOST_BYTES
from dedup_spark.sources.objects import read_object
from dedup_spark.sources.other_files import other_kind
from dedup_spark.sources.passed_over import (
    BESIDE_CONTAINERS,
    CLOSED_FOLDER,
    FAILING_FOLDER,
    HIDDEN_FILE,
    HIDDEN_FOLDER,
    PassedOver,
)
from dedup_spark.sources.patience import ListingRefused
from dedup_spark.sources.s3_keys import entries_of_range, ranges_of_keys
from dedup_spark.sources.store_entries import store_entries
from dedup_spark.spark.local_relation import local_relation
from dedup_spark.vocabulary import RejectReason

log = logging.getLogger(__name__)

_ROWS_PER_BATCH = 4096
_MAX_DRIVER_ENTRIES = 200_000
"""Entries of one folder that the driver lists: about 20 s in S3. A larger folder goes to an executor."""
_PLACES = Columns("path string, recursive boolean, after string, until string")
"""What executors are given to list: a folder, not `recursive`: without the folders below. Or, with `after`, the keys
below it that come after that one, up to `until`, or to the end."""


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
            raise ConfigError(f"lake {self.lake}: {_why_no_folder(uri)}")
        return uri

    def list_images(self, spark: SparkSession) -> DataFrame:
        wanted = 4 * spark.sparkContext.defaultParallelism
        places = self._ranges(spark, wanted) or self._folders(spark, wanted)
        return places.mapInArrow(self._list_places, LISTING.ddl)

    def _ranges(self, spark: SparkSession, wanted: int) -> DataFrame | None:
        """Rows of _PLACES that are ranges of keys; None where the store has none, or refuses to list all keys."""
        try:
            ranges = ranges_of_keys(self.root, wanted)
        except ListingRefused as e:
            log.info("inventory: the lake is listed folder by folder: %s", e)
            return None
        except FileNotFoundError as e:
            self._require_lake(self.root, e)
            raise
        if ranges is None:
            return None
        rows = [(self.root, True, one.after, one.until) for one in ranges]
        return local_relation(spark, rows, _PLACES).repartition(len(rows))

    def _folders(self, spark: SparkSession, wanted: int) -> DataFrame:
        """Rows of _PLACES that are folders. What is below a folder with too many entries for the driver, executors look
        for, so that a million folders in one are shared out like others."""
        whole, trees, large = self._share_out(self.root, wanted)
        rows = [(path, False, None, None) for path in whole + large] + [(path, True, None, None) for path in trees]
        folders = local_relation(spark, rows, _PLACES).repartition(min(len(rows), 4 * wanted))
        if not large:
            return folders
        alone = local_relation(spark, [(path, False, None, None) for path in large], _PLACES).repartition(len(large))
        below = alone.mapInArrow(self._folders_below, _PLACES.ddl)
        return folders.unionByName(below.repartition(wanted, "path"))

    def first_entries(self, folder: str, n: int) -> Iterator[Entry]:
        """The first `n` entries of `folder`, less those that are passed over whatever they are. The driver asks."""
        return (entry for entry in itertools.islice(self.entries(folder), n) if not entry.passed_over)

    def fetch(self, address: Address, max_bytes: int = MOST_BYTES) -> bytes:
        try:
            return read_object(address.uri, etag=address.etag, max_bytes=max_bytes)
        except ImageRejected as e:
            if (
                e.reason == RejectReason.MISSING
                and not addresses.is_remote(self.root)
                and addresses.kind_of(self.root) is None
            ):
                raise OSError(errno.ENOTCONN, f"the lake {self.root} is not there: is it mounted?") from e
            raise

    def _share_out(self, root: str, wanted: int) -> tuple[list[str], list[str], list[str]]:
        """Folders to list without the folders below them, disjoint trees that hold the rest, and folders that are too
        large for the driver, with all below them."""
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
        return whole, trees, too_large

    def _folders_in(self, folder: str) -> list[str] | None:
        """The folders directly in `folder`; None when it has too many entries for the driver."""
        found = []
        for n_entries, entry in enumerate(self.entries(folder)):
            if n_entries >= _MAX_DRIVER_ENTRIES:
                return None
            if entry.is_folder and not entry.passed_over:
                found.append(entry.uri)
        return found

    def _folders_below(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """On executors: folders to those directly in them, as trees. What is wrong with them their own listing says."""
        for batch in batches:
            for folder in batch["path"].to_pylist():
                below = (e.uri for e in self.entries(folder) if e.is_folder and not e.passed_over)
                while paths := list(itertools.islice(below, _ROWS_PER_BATCH)):
                    rows = [{"path": path, "recursive": True} for path in paths]
                    yield pa.RecordBatch.from_pylist(rows, schema=_PLACES.arrow)

    def _list_places(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """On executors: rows of _PLACES to rows of LISTING."""
        found: list[Entry] = []
        passed_over = PassedOver()
        for batch in batches:
            for row in batch.to_pylist():
                for entry in self._entries_of(row):
                    if reason := entry.passed_over or self._other_kind(entry):
                        passed_over.add(reason, entry.uri)
                        if len(passed_over) >= _ROWS_PER_BATCH:
                            yield passed_over.to_arrow()
                            passed_over = PassedOver()
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

    def _entries_of(self, place: dict[str, Any]) -> Iterator[Entry]:
        after = place.get("after")
        if after is None:
            return self._walk(place["path"], recursive=place["recursive"])
        return self._range_entries(place["path"], KeyRange(after, place["until"]))

    def _range_entries(self, folder: str, wanted: KeyRange) -> Iterator[Entry]:
        try:
            yield from entries_of_range(folder, wanted, skip_hidden=self.skip_hidden)
        except FileNotFoundError as e:
            self._require_lake(folder, e)
        except ListingRefused as e:  # not for a folder below the lake, but for all keys from one on
            raise SourceError(str(e)) from e

    def _walk(self, folder: str, *, recursive: bool) -> Iterator[Entry]:
        """The files of a folder, or of the tree below it, and what is passed over."""
        waiting = [folder]
        while waiting:
            for entry in self.entries(waiting.pop()):
                if not entry.is_folder or entry.passed_over:
                    yield entry
                elif recursive:
                    waiting.append(entry.uri)

    def entries(self, folder: str) -> Iterator[Entry]:
        """The entries of `folder`; none where it has vanished, and `folder` itself, as passed over, where it cannot be
        listed. Raises SourceError when nothing of the lake can be."""
        try:
            for entry in store_entries(folder) if addresses.is_remote(folder) else local_entries(folder):
                if self.skip_hidden and entry.uri.rsplit("/", 1)[-1].startswith("."):
                    yield entry._replace(passed_over=HIDDEN_FOLDER if entry.is_folder else HIDDEN_FILE)
                else:
                    yield entry
        except (FileNotFoundError, NotADirectoryError) as e:
            self._require_lake(folder, e)
        except ListingRefused as e:
            if folder == self.root:
                raise SourceError(str(e)) from e
            yield Entry(folder, is_folder=True, passed_over=CLOSED_FOLDER)
        except OSError as e:
            reason = why_unlisted(folder, e)
            if reason is None or folder == self.root:
                raise _unlistable(folder, reason, e) from e
            if reason == FAILING_FOLDER:
                self._require_lake(folder, e)
            yield Entry(folder, is_folder=True, passed_over=reason)

    def _require_lake(self, folder: str, error: OSError) -> None:
        """Raise SourceError where it is the whole lake that has vanished, not just `folder`."""
        if folder == self.root or addresses.kind_of(self.root) != "folder":
            raise SourceError(
                f"lake {self.root}: vanished while it was listed; is it still mounted? Nothing was changed"
            ) from error


def _why_no_folder(uri: str) -> str:
    """In words, where `addresses.kind_of` found none: one that this user may not look at is there all the same."""
    try:
        if addresses.kind_of(uri) == "file":
            return (
                "is a file, and a lake is a folder of images, or a file that names or holds them (.csv, .tsv, "
                f".parquet, .tar, manifest.json): give the folder, {_readable(uri.rpartition('/')[0])}"
            )
        if not addresses.is_remote(uri):
            Path(addresses.to_path(uri)).stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return "no such folder"
    except OSError as e:
        return f"cannot be looked at: {e.strerror}"
    return "no such folder"


def _readable(uri: str) -> str:
    """As a person types it."""
    return uri if addresses.is_remote(uri) else addresses.to_path(uri)


def _unlistable(folder: str, reason: str | None, error: OSError) -> ConfigError | SourceError:
    """For the lake itself: what is wrong with the surroundings was wrong before anything began."""
    text = f"{folder}: cannot be listed: {error}; what is in it is unknown, so nothing was changed: "
    if reason is None or reason == FAILING_FOLDER:
        return SourceError(f"{text}run again when the disk or the machine is well")
    return ConfigError(f"{text}make it readable for this user, or give another lake")


_COLUMNS = ("uri", "size_bytes", "modified_at", "etag", "attributes", "file_id", "n_links")


def _to_arrow(entries: list[Entry]) -> pa.RecordBatch:
    rows = [{name: getattr(entry, name) for name in _COLUMNS} for entry in entries]
    return pa.RecordBatch.from_pylist(rows, schema=LISTING.arrow)

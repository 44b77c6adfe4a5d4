"""Tar files and WebDataset shards: images are found by the headers and read by offset; nothing is unpacked.

The lake is one tar file, a folder (all `*.tar` below it) or a glob of its files (`shards/train-*.tar`). There is one
row per member that is or may be an image, under its full name; `position` and `size_bytes` are its place in the tar
file. A WebDataset sample (`key.jpg`, `key.json`, ...) has its key in `attributes`; several images of a sample are
several rows. Members that are no images by name and first bytes (json, txt, npy, ...), hidden ones, links and sparse
files are passed over and counted, as are files beside the tar files of a folder. Of members of one name each is an
image (`member_names.py`).

A tar file that is damaged, cut off or closed gives the members up to there, and one row of its own without a member,
which extract rejects with the reason and the place, so that the loss is visible. What is behind is unknown: members
that were known there are not taken for gone (`passed_over.UNLISTED`). Compressed tar files cannot be read from the
middle: they are passed over and counted, and ConfigError names them where there are no others.

Cost: a task reads one tar file at a time. From a disk it reads 512 bytes per member. From a store it makes one request
of 1 MiB per member, or one per 1 MiB where members are smaller, which takes no longer than a small request: shards of
small images are read once to be listed, and those with members of several MB are not.
"""

from __future__ import annotations

import functools
import itertools
import logging
import re
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import fsspec.utils
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dedup_spark.errors import ConfigError, SourceError
from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.kernels.decoding.other_kinds import HEAD_BYTES, kind_of_name, may_be_image
from dedup_spark.sources import addresses, names, times
from dedup_spark.sources.base import LISTING, Address, Listed
from dedup_spark.sources.disk import open_regular
from dedup_spark.sources.entries import why_unlisted
from dedup_spark.sources.folder import FolderSource
from dedup_spark.sources.limits import MOST_BYTES
from dedup_spark.sources.member_names import MemberNames
from dedup_spark.sources.objects import read_object
from dedup_spark.sources.passed_over import COMPRESSED_TAR, HIDDEN_FILE, REMEDIES, UNLISTED_TAR, PassedOver
from dedup_spark.sources.patience import ListingRefused, ask_patiently
from dedup_spark.sources.random_access import open_bytes
from dedup_spark.sources.tar_headers import DAMAGE, HeaderFile, members
from dedup_spark.spark.local_relation import local_relation

log = logging.getLogger(__name__)

TAR_NAME = r"(?i:\.tar)$"
COMPRESSED_NAME = r"(?i:\.(tar\.(gz|bz2|xz|zst|lz4|lzma|z)|tgz|tbz2?|txz|tzst))$"
ANY_TAR_NAME = f"{TAR_NAME}|{COMPRESSED_NAME}"
_GLOB = re.compile(r"[*?\[]")
_FILES = "uri string, modified_at timestamp, passed_over string, n_passed_over bigint"
_READ_AHEAD_BYTES = 2**20
_ROWS_PER_BATCH, _TEXT_PER_BATCH = 4096, 8 * 2**20


@dataclass(frozen=True)
class TarSource(Listed):
    """`lake` is a tar file, a folder, or a glob below a folder."""

    lake: str
    skip_hidden: bool = True

    @functools.cached_property
    def root(self) -> str:
        folder, pattern = self._parts
        if addresses.kind_of(folder) is None:
            raise ConfigError(f"lake {self.lake}: no such tar file or folder")
        return f"{folder}/{pattern}" if pattern else folder

    @functools.cached_property
    def _parts(self) -> tuple[str, str | None]:
        """The tar file or folder, and the glob below it, if any."""
        glob = _GLOB.search(self.lake)
        if glob is None or addresses.kind_of(addresses.to_uri(self.lake)) is not None:
            return addresses.to_uri(self.lake), None
        cut = self.lake.rfind("/", 0, glob.start()) + 1
        return addresses.to_uri(self.lake[:cut] or "."), self.lake[cut:]

    def list_images(self, spark: SparkSession) -> DataFrame:
        tars = self._tars(spark)
        n_tars = self._count_plain(tars)
        n_tasks = min(n_tars, 16 * spark.sparkContext.defaultParallelism)
        return tars.repartition(n_tasks).mapInArrow(self._list_tars, LISTING.ddl)

    def fetch(self, address: Address, max_bytes: int = MOST_BYTES) -> bytes:
        if address.member is None:
            raise _why_unlisted(address)
        data = read_object(address.uri, address.position, address.size_bytes, max_bytes=max_bytes)
        if address.size_bytes is not None and len(data) < address.size_bytes:
            raise ImageRejected("truncated", f"the tar file ends {len(data):,} bytes into this member")
        return data

    def _tars(self, spark: SparkSession) -> DataFrame:
        """(uri, modified_at, passed_over, n_passed_over, compressed) of the tar files and of entries passed over."""
        folder, pattern = self._parts
        if addresses.kind_of(folder) == "file":
            found = local_relation(spark, [(folder, None, None, None)], _FILES)
            return found.withColumn("compressed", F.col("uri").rlike(COMPRESSED_NAME))
        found = FolderSource(folder, self.skip_hidden, only=ANY_TAR_NAME).list_images(spark)
        found = found.select("uri", "modified_at", "passed_over", "n_passed_over")
        is_one = F.col("uri").rlike(ANY_TAR_NAME)
        if pattern is not None:
            is_one &= F.substring("uri", len(folder) + 2, 2**31 - 1).rlike(glob_regex(pattern))
        found = found.where(is_one | F.col("passed_over").isNotNull())
        return found.withColumn("compressed", F.col("passed_over").isNull() & F.col("uri").rlike(COMPRESSED_NAME))

    def _count_plain(self, tars: DataFrame) -> int:
        """The number of uncompressed tar files; it costs one more listing of the folder, before any work is done."""
        counts = (
            tars.where("passed_over IS NULL")
            .groupBy("compressed")
            .agg(F.count("*").alias("n"), F.min("uri").alias("first"))
        )
        kinds = {row["compressed"]: row for row in counts.collect()}
        if not kinds:
            raise ConfigError(f"lake {self.lake}: no tar file there")
        if False not in kinds:
            raise ConfigError(
                f"lake {self.lake}: {kinds[True]['n']:,} compressed tar files, for example {kinds[True]['first']}; "
                f"{REMEDIES[COMPRESSED_TAR]}"
            )
        return int(kinds[False]["n"])

    def _list_tars(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """On executors: rows of `_tars` to rows of LISTING."""
        passed_over = PassedOver()
        tars = itertools.chain.from_iterable(batch.to_pylist() for batch in batches)
        yield from _in_batches(row for tar in tars for row in self._rows_of(tar, passed_over))
        yield passed_over.to_arrow()

    def _rows_of(self, tar: dict[str, Any], passed_over: PassedOver) -> Iterator[dict[str, Any]]:
        if tar["passed_over"]:
            passed_over.add_all(tar["passed_over"], tar["n_passed_over"], tar["uri"])
        elif tar["compressed"]:
            passed_over.add(COMPRESSED_TAR, tar["uri"])
        else:
            yield from list_members(tar["uri"], tar["modified_at"], self.skip_hidden, passed_over)


def _in_batches(rows: Iterable[dict[str, Any]]) -> Iterator[pa.RecordBatch]:
    """A batch ends with its rows or with the text of its names: a header may hold a name of 1 MiB."""
    found: list[dict[str, Any]] = []
    n_text = 0
    for row in rows:
        found.append(row)
        n_text += len(row.get("member") or "")
        if len(found) >= _ROWS_PER_BATCH or n_text >= _TEXT_PER_BATCH:
            yield pa.RecordBatch.from_pylist(found, schema=LISTING.arrow)
            found, n_text = [], 0
    yield pa.RecordBatch.from_pylist(found, schema=LISTING.arrow)


def _why_unlisted(address: Address) -> ImageRejected:
    """The reason of the row that stands for members which are not listed; that of the store, where it has one now."""
    read_object(address.uri, 0, tarfile.BLOCKSIZE)
    if not address.position:
        return ImageRejected("corrupt", "the tar file cannot be opened as one: its members are not listed")
    return ImageRejected("corrupt", f"damaged at byte {address.position:,}: members from there on are not listed")


def glob_regex(pattern: str) -> str:
    """A regular expression, of Python and of Java, that finds what a glob matches; `**` stands for any folders."""
    return f"^{fsspec.utils.glob_translate(pattern)}"


def list_members(
    uri: str, tar_modified_at: datetime | None, skip_hidden: bool, passed_over: PassedOver | None = None
) -> Iterator[dict[str, Any]]:
    """The images of one tar file as rows; only headers are read. Damage, and a file that cannot be read, is a row.

    Members that are no images are counted in `passed_over`. Raises SourceError: the store, or this machine, fails.
    """
    passed_over = PassedOver() if passed_over is None else passed_over
    named, place = MemberNames(), 0
    try:
        with closing(_open(uri)) as file:
            for member in members(file):
                place = file.next_header
                name = names.to_text(member.name)
                if member.isdir():
                    continue
                if reason := _no_image(file, member, skip_hidden):
                    passed_over.add(reason, uri, name)
                    continue
                yield from named.add(_row(uri, name, member, tar_modified_at))
    except (ListingRefused, ImageRejected, OSError) as e:
        _require_of_this_file(uri, e)
        yield _unlisted(uri, place, None, e, passed_over)
    except DAMAGE as e:
        yield _unlisted(uri, place, tar_modified_at, e, passed_over)
    yield from named.rest()


def _unlisted(
    uri: str, place: int, tar_modified_at: datetime | None, error: Exception, passed_over: PassedOver
) -> dict[str, Any]:
    """The row for what is behind `place`. What else was known there is not taken for gone."""
    log.warning("%s: members from byte %d on are not listed: %s", uri, place, " ".join(str(error).split())[:500])
    passed_over.add(UNLISTED_TAR, uri)
    return {"uri": uri, "position": place, "modified_at": tar_modified_at}


def _require_of_this_file(uri: str, error: Exception) -> None:
    """Raise SourceError where a fault says nothing of this file: the next one would fail in the same way."""
    is_answer = isinstance(error, ListingRefused | ImageRejected | FileNotFoundError | PermissionError)
    if not is_answer and isinstance(error, OSError) and why_unlisted(uri, error) is None:
        raise SourceError(f"{uri}: {error}; what is in it is unknown, so nothing was changed: run again") from error


def sample_key(name: str) -> str:
    """WebDataset's key of a member: its name up to the first dot of the last part."""
    folder, slash, last = name.rpartition("/")
    return folder + slash + last.partition(".")[0]


def _row(uri: str, name: str, member: tarfile.TarInfo, tar_modified_at: datetime | None) -> dict[str, Any]:
    return {
        "uri": uri,
        "member": name,
        "position": member.offset_data,
        "size_bytes": member.size,
        "modified_at": _modified_at(member) or tar_modified_at,
        "attributes": {"key": sample_key(name)},
    }


def _modified_at(member: tarfile.TarInfo) -> datetime | None:
    """None where the writer gave no time (0, for reproducible files) or nonsense."""
    return times.from_seconds(member.mtime) if member.mtime > 0 else None


def _no_image(file: HeaderFile, member: tarfile.TarInfo, skip_hidden: bool) -> str | None:
    """Why a member other than a folder cannot be an image read by its offset; None when it may be one."""
    last = member.name.rpartition("/")[2]
    if member.issparse():
        return "sparse file"
    if not member.isreg():
        return "link in a tar file" if member.islnk() or member.issym() else "device"
    if skip_hidden and last.startswith("."):
        return HIDDEN_FILE
    kind = kind_of_name(member.name)
    return None if kind is None or may_be_image(_head(file, member)) else kind


def _head(file: HeaderFile, member: tarfile.TarInfo) -> bytes:
    """Its first bytes: they follow the header, so a store is not asked again."""
    file.seek(member.offset_data)
    return file.read(min(HEAD_BYTES, member.size))


def _open(uri: str) -> HeaderFile:
    if not addresses.is_remote(uri):
        return HeaderFile(open_regular(addresses.to_path(uri)), uri, None)
    reopen = functools.partial(open_bytes, uri, read_bytes=_READ_AHEAD_BYTES)
    return HeaderFile(ask_patiently(reopen, uri), uri, reopen)

"""Tar files and WebDataset shards: images are found by the headers and read by offset; nothing is unpacked.

The lake is one tar file, a folder (all `*.tar` below it) or a glob of its files (`shards/train-*.tar`). There is one
row per member that is or may be an image, under its full name; `position` and `size_bytes` are its place in the tar
file. A WebDataset sample (`key.jpg`, `key.json`, ...) has its key in `attributes`; several images of a sample are
several rows. Members that are no images by name and first bytes (json, txt, npy, ...), hidden ones, links and sparse
files are passed over and counted, as are files beside the tar files of a folder. Of members of one name each is an
image (`member_names.py`).

A tar file that is damaged or cut off gives the members up to there, and one row of its own without a member, which
extract rejects as `corrupt` with the place, so that the loss is visible. Compressed tar files cannot be read from the
middle: ConfigError names them.

Cost: a task reads one tar file at a time. From a disk it reads 512 bytes per member. From a store it makes one request
of 1 MiB per member, or one per 1 MiB where members are smaller, which takes no longer than a small request: shards of
small images are read once to be listed, and those with members of several MB are not.
"""

from __future__ import annotations

import functools
import logging
import re
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, BinaryIO

import fsspec.utils
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dedup_spark.errors import ConfigError
from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.kernels.decoding.other_kinds import HEAD_BYTES, kind_of_name, may_be_image
from dedup_spark.sources import addresses, names
from dedup_spark.sources.base import LISTING, Address, Listed
from dedup_spark.sources.folder import FolderSource
from dedup_spark.sources.member_names import MemberNames
from dedup_spark.sources.objects import read_object
from dedup_spark.sources.passed_over import HIDDEN_FILE, PassedOver
from dedup_spark.spark.local_relation import local_relation

log = logging.getLogger(__name__)

TAR_NAME = r"(?i:\.tar)$"
COMPRESSED_NAME = r"(?i:\.(tar\.(gz|bz2|xz|zst|lz4|lzma|z)|tgz|tbz2?|txz|tzst))$"
ANY_TAR_NAME = f"{TAR_NAME}|{COMPRESSED_NAME}"
_GLOB = re.compile(r"[*?\[]")
_FILES = "uri string, modified_at timestamp, passed_over string, n_passed_over bigint"
_READ_AHEAD_BYTES = 2**20
_ROWS_PER_BATCH = 4096


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
        return tars.where(~F.col("compressed")).repartition(n_tasks).mapInArrow(self._list_tars, LISTING.ddl)

    def fetch(self, address: Address) -> bytes:
        if address.member is None:
            place = "the tar file cannot be opened" if not address.position else f"damaged at byte {address.position:,}"
            raise ImageRejected("corrupt", f"{place}: members from there on are not listed")
        data = read_object(address.uri, address.position, address.size_bytes)
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
        if True in kinds:
            raise ConfigError(
                f"lake {self.lake}: {kinds[True]['n']:,} compressed tar files, for example {kinds[True]['first']}; "
                "their members cannot be read one by one: store them as plain .tar (images hardly compress)"
            )
        if not kinds:
            raise ConfigError(f"lake {self.lake}: no tar file there")
        return int(kinds[False]["n"])

    def _list_tars(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """On executors: rows of `_tars` to rows of LISTING."""
        found: list[dict[str, Any]] = []
        passed_over = PassedOver()
        for batch in batches:
            for tar in batch.to_pylist():
                if tar["passed_over"]:
                    passed_over.add_all(tar["passed_over"], tar["n_passed_over"], tar["uri"])
                    continue
                for row in list_members(tar["uri"], tar["modified_at"], self.skip_hidden, passed_over):
                    found.append(row)
                    if len(found) >= _ROWS_PER_BATCH:
                        yield pa.RecordBatch.from_pylist(found, schema=LISTING.arrow)
                        found = []
        yield pa.RecordBatch.from_pylist(found, schema=LISTING.arrow)
        yield passed_over.to_arrow()


def glob_regex(pattern: str) -> str:
    """A regular expression, of Python and of Java, that finds what a glob matches; `**` stands for any folders."""
    return f"^{fsspec.utils.glob_translate(pattern)}"


def list_members(
    uri: str, tar_modified_at: datetime | None, skip_hidden: bool, passed_over: PassedOver | None = None
) -> Iterator[dict[str, Any]]:
    """The images of one tar file as rows; only headers are read. Faults of the store are raised, damage is a row.

    Members that are no images are counted in `passed_over`.
    """
    passed_over = PassedOver() if passed_over is None else passed_over
    named, end = MemberNames(), 0
    try:
        with closing(_open(uri)) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # else it keeps all of them in memory
                if tar.offset <= end or member.size < 0:
                    raise tarfile.ReadError("a header that points backwards")
                end = tar.offset
                name = names.to_text(member.name)
                if member.isdir():
                    continue
                if reason := _no_image(file, member, skip_hidden):
                    passed_over.add(reason, uri, name)
                    continue
                yield from named.add(_row(uri, name, member, tar_modified_at))
            _require_end_mark(file, uri, tar.offset)
    except (FileNotFoundError, PermissionError) as e:
        log.warning("%s: %s", uri, e)
        yield {"uri": uri, "position": 0}
    except (tarfile.TarError, ValueError, IndexError, OverflowError, EOFError) as e:  # what damaged headers raise
        log.warning("%s: damaged at byte %d, members after it are not listed: %s", uri, end, e)
        yield {"uri": uri, "position": end, "modified_at": tar_modified_at}
    yield from named.rest()


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
    try:
        return datetime.fromtimestamp(member.mtime, UTC) if member.mtime > 0 else None
    except (ValueError, OverflowError, OSError):
        return None


def _no_image(file: BinaryIO, member: tarfile.TarInfo, skip_hidden: bool) -> str | None:
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


def _head(file: BinaryIO, member: tarfile.TarInfo) -> bytes:
    """Its first bytes: they follow the header, so a store is not asked again."""
    file.seek(member.offset_data)
    return file.read(min(HEAD_BYTES, member.size))


def _require_end_mark(file: BinaryIO, uri: str, offset: int) -> None:
    """Check that only zeros follow the last member: `tarfile` ends without an error at a broken header.

    Raises:
        tarfile.ReadError: something else follows.
    """
    file.seek(offset)
    n_zeros = 0
    while block := file.read(_READ_AHEAD_BYTES):
        if block.strip(b"\0"):
            place = offset + n_zeros + len(block) - len(block.lstrip(b"\0"))
            raise tarfile.ReadError(f"no tar header at byte {place:,}, or tar files written one after another")
        n_zeros += len(block)
    if n_zeros == 0:
        log.warning("%s: no end mark; its writer was stopped, but all members that it has are whole", uri)


def _open(uri: str) -> BinaryIO:
    if not addresses.is_remote(uri):
        return open(addresses.to_path(uri), "rb", buffering=0)
    filesystem, path = addresses.open_store(uri)
    file: BinaryIO = filesystem.open(path, "rb", block_size=_READ_AHEAD_BYTES, cache_type="readahead")
    return file

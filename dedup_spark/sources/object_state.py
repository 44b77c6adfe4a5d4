"""What is at an address now, whatever a listing said; on executors. Bytes are read only on request."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import stat
from dataclasses import dataclass
from datetime import datetime
from io import BufferedReader
from typing import Any

from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.kernels.features.hashing import content_hash
from dedup_spark.sources import addresses
from dedup_spark.sources.limits import MOST_BYTES
from dedup_spark.sources.objects import read_object, store_errors
from dedup_spark.sources.times import from_nanoseconds, modified_at

_WITHOUT_WAITING = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""A link is an error, and a pipe opens at once instead of waiting for a writer."""


@dataclass(frozen=True)
class ObjectState:
    """Facts of an object or file. `identity` is equal for two names of one file; `n_links` counts its names."""

    identity: str
    size_bytes: int | None
    modified_at: datetime | None = None
    etag: str | None = None
    version_id: str | None = None
    n_links: int = 1
    content_hash: str | None = None


def object_state(uri: str, *, read: bool = False, max_bytes: int = MOST_BYTES) -> ObjectState:
    """The state of a local file, which is hashed, or of an object by one HEAD; with `read` that is hashed too.

    Raises:
        ImageRejected: `missing`, or `forbidden`, which includes links and pipes; `too_large` above `max_bytes`;
            `store_unavailable` where this machine has no package for the scheme.
        OSError: a fault of the store that may pass.
    """
    if not addresses.is_remote(uri):
        return _state_of_file(addresses.to_path(uri))
    with store_errors():
        filesystem, path = addresses.open_store(uri)
        facts = _head(filesystem, uri, path)
    data = read_object(uri, max_bytes=max_bytes) if read else None
    return ObjectState(
        identity=uri,
        size_bytes=facts.get("ContentLength", facts.get("size")),
        modified_at=modified_at(facts),
        etag=_unquoted(facts.get("ETag") or facts.get("etag")),
        version_id=facts.get("VersionId") or facts.get("version_id"),
        content_hash=None if data is None else content_hash(data),
    )


def _state_of_file(path: str) -> ObjectState:
    with store_errors():
        try:
            descriptor = os.open(path, _WITHOUT_WAITING)
        except OSError as e:
            if e.errno in (errno.ELOOP, errno.ENXIO):
                raise ImageRejected("forbidden", f"{path} is a link, a pipe or a socket") from e
            raise
        with open(descriptor, "rb") as f:
            return _hash_file(path, f)


def _hash_file(path: str, f: BufferedReader) -> ObjectState:
    facts = os.fstat(f.fileno())
    if not stat.S_ISREG(facts.st_mode):
        raise ImageRejected("forbidden", f"{path} is no regular file")
    return ObjectState(
        identity=f"{socket.gethostname()}/{facts.st_dev}:{facts.st_ino}",
        size_bytes=facts.st_size,
        modified_at=from_nanoseconds(facts.st_mtime_ns),
        n_links=facts.st_nlink,
        content_hash=hashlib.file_digest(f, "sha256").hexdigest(),
    )


def _head(filesystem: Any, uri: str, path: str) -> dict[str, Any]:
    """Facts by S3's own request, as fsspec may take a key for a folder; elsewhere by `info`, without its cache."""
    if hasattr(filesystem, "call_s3"):
        bucket, _, key = uri.partition("://")[2].partition("/")
        found: dict[str, Any] = filesystem.call_s3("head_object", Bucket=bucket, Key=key)
        return found
    filesystem.invalidate_cache(path)
    found = dict(filesystem.info(path))
    if found.get("type") == "directory":
        raise FileNotFoundError(uri)
    return found


def _unquoted(etag: str | None) -> str | None:
    return etag.strip('"') if etag else None

"""The bytes of one object, or of a range of it, by URI: shared by all sources that read plain objects."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import fsspec.asyn

from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.sources import addresses
from dedup_spark.sources.faults import answer_of, fault_of

MOUNTED_STORES = ("/Volumes/", "/dbfs/")
"""Object stores that Databricks mounts as folders: they say no more than EIO when the store fails."""


def read_object(uri: str, start: int | None = None, length: int | None = None, *, etag: str | None = None) -> bytes:
    """The object's bytes; with `start` and `length`, that range of them, or less where the object ends.

    It makes one request to the store and does not retry: see `fetching.py`. With `etag` S3 gives the object of that
    ETag or none, so that an object that replaced it since the listing, with as many bytes, is not taken for it.

    Raises:
        ImageRejected: `missing`, `forbidden`, `archived` or `changed_since_listing`.
        OSError: another fault of the store, which may pass; see `faults.py`.
        ImportError: this machine has no package for the scheme.
    """
    if length == 0:
        return b""
    if not addresses.is_remote(uri):
        with store_errors(uri):
            return _read_local(addresses.to_path(uri), start or 0, length)
    store, path = addresses.split_store(uri)
    end = None if length is None else (start or 0) + length
    with store_errors(uri, ours=(ImportError, ValueError)):  # no package, no such scheme
        filesystem, base = addresses.open_for_reading(store)
    with store_errors(uri):
        try:
            if hasattr(filesystem, "call_s3"):
                return _get_from_s3(filesystem, base.rstrip("/"), path, (start, end), etag)
            data: bytes = filesystem.cat_file(f"{base.rstrip('/')}/{path}", start=start, end=end)
        except Exception as e:  # each store has error types of its own
            if _is_past_the_end(e):
                return b""
            raise
        return data


def _get_from_s3(
    filesystem: Any, bucket: str, key: str, byte_range: tuple[int | None, int | None], etag: str | None
) -> bytes:
    """The object by bucket and key: out of a path s3fs would cut `?versionId=`, which a key may hold."""
    start, end = byte_range
    request = {"Bucket": bucket, "Key": key}
    if start is not None or end is not None:
        request["Range"] = f"bytes={start or 0}-{'' if end is None else end - 1}"
    if etag:
        request["IfMatch"] = f'"{etag}"'

    async def get() -> bytes:
        answer = await filesystem._call_s3("get_object", **request)
        async with answer["Body"] as body:
            data: bytes = await body.read()
            return data

    try:
        data: bytes = fsspec.asyn.sync(filesystem.loop, get)
    except Exception as e:
        if etag and answer_of(e).status == HTTPStatus.PRECONDITION_FAILED:
            raise ImageRejected("changed_since_listing", f"the store no longer has the object of ETag {etag}") from e
        raise
    return data


@contextmanager
def store_errors(uri: str | None = None, ours: tuple[type[Exception], ...] = (ImportError,)) -> Iterator[None]:
    """Turn what the libraries of the stores raise into ImageRejected or OSError, as `Source.fetch` promises.

    `uri` says whether it was a file of this machine or an object of a store; errors of the types in `ours` pass as
    they are.
    """
    passing: tuple[type[Exception], ...] = (ImageRejected, *ours)
    try:
        yield
    except passing:
        raise
    except Exception as e:  # each store has error types of its own
        fault = fault_of(e, on_disk=uri is not None and _is_on_disk(uri))
        if fault is e:
            raise
        raise fault from e


def _is_on_disk(uri: str) -> bool:
    return not addresses.is_remote(uri) and not addresses.to_path(uri).startswith(MOUNTED_STORES)


def _read_local(path: str, start: int, length: int | None) -> bytes:
    """Read a regular file. It is checked before it is opened: opening a device or a pipe may act, or never end."""
    try:
        _require_regular(Path(path).stat(), path)
        with open(path, "rb", opener=_open_without_waiting) as f:
            _require_regular(os.fstat(f.fileno()), path)  # it may have been replaced in between
            if start:
                f.seek(start)
            return f.read() if length is None else f.read(length)
    except OSError as e:
        if e.errno == errno.ENAMETOOLONG:
            n_bytes = len(os.fsencode(path))
            raise ImageRejected("missing", f"a path of {n_bytes:,} bytes, which this system does not take") from e
        if e.errno in _LEADS_NOWHERE and Path(path).is_symlink():
            raise ImageRejected("missing", f"{path} is a link to nowhere: {Path(path).readlink()}") from e
        if e.errno in _LEADS_NOWHERE:
            raise ImageRejected("missing", f"no such object: {e}") from e
        raise


_LEADS_NOWHERE = (errno.ENOENT, errno.ELOOP, errno.ENOTDIR)


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _require_regular(facts: os.stat_result, path: str) -> None:
    if not stat.S_ISREG(facts.st_mode):
        raise ImageRejected("forbidden", f"{path} is no regular file; a pipe or device may never end")


def _is_past_the_end(error: Exception) -> bool:
    """Whether the store said 416: the range begins where the object has ended."""
    answer = answer_of(error)
    return answer.code == "InvalidRange" or answer.status == 416

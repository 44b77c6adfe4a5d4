"""The bytes of one object, or of a range of it, by URI: shared by all sources that read plain objects."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.sources import addresses
from dedup_spark.sources.disk import read_file
from dedup_spark.sources.faults import answer_of, fault_of_read
from dedup_spark.sources.limits import MOST_BYTES, Part
from dedup_spark.sources.streams import get_from_s3, get_from_web

MOUNTED_STORES = ("/Volumes/", "/dbfs/")
"""Object stores that Databricks mounts as folders: they say no more than EIO when the store fails."""


def read_object(
    uri: str,
    start: int | None = None,
    length: int | None = None,
    *,
    etag: str | None = None,
    max_bytes: int = MOST_BYTES,
) -> bytes:
    """The object's bytes; with `start` and `length`, that range of them, or less where the object ends.

    It makes one request to the store and does not retry: see `fetching.py`. No more than `max_bytes` + 1 bytes are
    asked for, or taken of what comes. With `etag` S3 gives the object of that ETag or none, so that an object that
    replaced it since the listing, with as many bytes, is not taken for it.

    Raises:
        ImageRejected: `too_large`, `missing`, `forbidden`, `archived` or `changed_since_listing`; `store_unavailable`
            where nothing on this machine reads such an address, which no pause mends.
        OSError: another fault of the store, which may pass; see `faults.py`.
    """
    part = Part.of(start, length, max_bytes)
    if length == 0:
        return b""
    with store_errors(uri):
        if not addresses.is_remote(uri):
            return read_file(addresses.to_path(uri), part)
        try:
            return _read_from_store(uri, part, etag)
        except Exception as e:  # each store has error types of its own
            if _is_past_the_end(e):
                return b""
            raise


def _read_from_store(uri: str, part: Part, etag: str | None) -> bytes:
    """By one request. Stores other than S3 and the web are asked for a range, which they keep to."""
    store, path = addresses.split_store(uri)
    filesystem, base = addresses.open_for_reading(store)
    if hasattr(filesystem, "call_s3"):
        return get_from_s3(filesystem, base.rstrip("/"), path, part, etag)
    place = f"{base.rstrip('/')}/{path}"
    if hasattr(filesystem, "encode_url") and hasattr(filesystem, "set_session"):
        return get_from_web(filesystem, place, part)
    return part.cut(filesystem.cat_file(place, start=part.start, end=part.end))


@contextmanager
def store_errors(uri: str | None = None) -> Iterator[None]:
    """Turn what the libraries of the stores raise into ImageRejected or OSError, as `Source.fetch` promises.

    `uri` says whether it was a file of this machine or an object of a store.
    """
    try:
        yield
    except ImageRejected:
        raise
    except Exception as e:  # each store has error types of its own
        fault = fault_of_read(e, on_disk=uri is not None and is_on_disk(uri))
        if fault is e:
            raise
        raise fault from e


def is_on_disk(uri: str) -> bool:
    """Whether it is a file of this machine's own, none of a store that is mounted as a folder."""
    return not addresses.is_remote(uri) and not addresses.to_path(uri).startswith(MOUNTED_STORES)


def _is_past_the_end(error: Exception) -> bool:
    """Whether the store said 416: the range begins where the object has ended."""
    answer = answer_of(error)
    return answer.code == "InvalidRange" or answer.status == 416

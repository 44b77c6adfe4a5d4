"""One object by one request, as a stream of which no more is taken than a limit: S3 and the web.

A server may send more than it says, say nothing, or never end; and a few kilobytes of a compressed answer become
gigabytes. Objects are asked for as they are, and an answer that is compressed all the same is unpacked here, up to the
limit. A server may also send on to another address: to one inside a network that only the executors reach. So it is
followed on its own host alone.
"""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import urljoin, urlsplit

import fsspec.asyn

from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.sources.faults import answer_of
from dedup_spark.sources.limits import Part

_CHUNK_BYTES = 2**20
_ANY_HEADER = 47
"""For zlib: the header says whether it is gzip or zlib."""
_PACKED_SHARE, _PACKED_BYTES = 1000, 1024
_PLAIN, _PACKED = ("", "identity"), ("gzip", "x-gzip", "deflate")
_SENT_ON = frozenset({301, 302, 303, 307, 308})
_MOST_HOPS = 5


def get_from_s3(filesystem: Any, bucket: str, key: str, part: Part, etag: str | None) -> bytes:
    """The object by bucket and key: out of a path s3fs would cut `?versionId=`, which a key may hold.

    Raises:
        ImageRejected: `too_large`, or `changed_since_listing` where the store has no object of that ETag any more.
    """
    request = {"Bucket": bucket, "Key": key, **({} if part.is_whole else {"Range": _range(part)})}
    if etag:
        request["IfMatch"] = f'"{etag}"'

    async def get() -> bytes:
        answer = await filesystem._call_s3("get_object", **request)
        body = answer["Body"]
        async with body:
            part.require_fits(answer.get("ContentLength"))
            return part.cut(await _taken(body.read, part))

    try:
        data: bytes = fsspec.asyn.sync(filesystem.loop, get)
    except Exception as e:
        if etag and answer_of(e).status == HTTPStatus.PRECONDITION_FAILED:
            raise ImageRejected("changed_since_listing", f"the store no longer has the object of ETag {etag}") from e
        raise
    return data


def get_from_web(filesystem: Any, url: str, part: Part) -> bytes:
    """The object at a URL, by fsspec's session: `cat_file` would take all that comes, and all that it unpacks to.

    Raises:
        ImageRejected: `too_large`; `forbidden` where a server gives no parts of objects, or sends on for ever;
            `outside_lake` where it sends on to another host.
    """
    headers = {**filesystem.kwargs.get("headers", {}), "Accept-Encoding": "identity"}
    headers |= {} if part.is_whole else {"Range": _range(part)}
    options = {**filesystem.kwargs, "headers": headers, "auto_decompress": False, "allow_redirects": False}

    async def get(place: Any, n_hops: int = 0) -> bytes:
        session = await filesystem.set_session()
        async with session.get(place, **options) as answer:
            if answer.status in _SENT_ON and "Location" in answer.headers:
                further = _on_the_same_host(str(place), answer.headers["Location"], n_hops)
                return await get(filesystem.encode_url(further), n_hops + 1)
            filesystem._raise_not_found_for_status(answer, url)
            if part.start and answer.status != HTTPStatus.PARTIAL_CONTENT:
                raise ImageRejected("forbidden", f"the server gives no parts of objects (status {answer.status})")
            encoding = answer.headers.get("Content-Encoding", "").lower()
            if encoding not in _PLAIN:
                return part.cut(_unpacked(await _taken(answer.content.read, part, is_packed=True), encoding, part))
            part.require_fits(_length(answer.headers))
            return part.cut(await _taken(answer.content.read, part))

    data: bytes = fsspec.asyn.sync(filesystem.loop, get, filesystem.encode_url(url))
    return data


def _on_the_same_host(place: str, location: str, n_hops: int) -> str:
    """Where an answer sends on to. Raises ImageRejected for another host or port, but from http to https."""
    try:
        further = urljoin(place, location)
        before, after = urlsplit(place), urlsplit(further)
        is_upgrade = (before.scheme, before.port, after.scheme, after.port) == ("http", None, "https", None)
        is_same = (before.scheme, before.port) == (after.scheme, after.port) or is_upgrade
    except ValueError as e:
        raise ImageRejected("forbidden", f"the server sends on to what is no address: {e}") from e
    if after.hostname != before.hostname or not is_same:
        raise ImageRejected("outside_lake", f"the server sends on to another one ({after.scheme}://{after.hostname})")
    if n_hops >= _MOST_HOPS:
        raise ImageRejected("forbidden", f"the server sends on more than {_MOST_HOPS} times")
    return further


def _range(part: Part) -> str:
    return f"bytes={part.start}-{'' if part.length is None else part.end - 1}"


async def _taken(read: Callable[[int], Awaitable[bytes]], part: Part, *, is_packed: bool = False) -> bytes:
    """What comes, up to one byte more than is asked for: so the end of an ordinary answer is seen, and its connection
    is used again."""
    chunks: list[bytes] = []
    n_left = part.end - part.start + (part.length is not None)
    if is_packed:  # what does not shrink grows by its packing
        n_left += n_left // _PACKED_SHARE + _PACKED_BYTES
    while n_left > 0 and (chunk := await read(min(n_left, _CHUNK_BYTES))):
        chunks.append(chunk)
        n_left -= len(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _unpacked(data: bytes, encoding: str, part: Part) -> bytes:
    if encoding not in _PACKED:
        raise ImageRejected(
            "forbidden", f"the server sends it compressed ({encoding}), though it is asked for as it is"
        )
    unpacker = zlib.decompressobj(_ANY_HEADER)
    try:
        return unpacker.decompress(data, part.end - part.start + 1)
    except zlib.error as e:
        raise ImageRejected("corrupt", f"its compression ({encoding}) is damaged: {e}") from e


def _length(headers: Mapping[str, str]) -> int | None:
    text = headers.get("Content-Length", "")
    return int(text) if text.isascii() and text.isdigit() else None

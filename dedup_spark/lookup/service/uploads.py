"""From a request to the bytes of its images: a body, a form or an address, within bounds of size, memory and time."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.lookup.service import allowed
from dedup_spark.lookup.service.bodies import Held
from dedup_spark.lookup.service.settings import ServiceSettings
from dedup_spark.sources.faults import fault_of
from dedup_spark.sources.objects import read_object

_MOST_JSON = 64 << 10
_MOST_FIELD = 16 << 10
_DROPPED, _SECONDS_TO_DROP = 4, 3.0


class Refused(Exception):
    """The request is not answered: an HTTP status, and why in a sentence."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why


@dataclass(frozen=True)
class Upload:
    """What a request brought: images, or one address; `uri` in a form is the address of an image to add."""

    images: tuple[bytes, ...] = ()
    address: str | None = None
    uri: str | None = None


async def read_upload(request: Request, settings: ServiceSettings, held: Held) -> Upload:
    """The body of a request, whose bytes are taken from the budget as they come. Raises Refused: 400, 408, 413, 503."""
    declared = request.headers.get("content-length", "0")
    try:
        if not declared.isdecimal() or int(declared) > settings.max_upload_bytes:
            raise _TooLarge(settings.max_upload_bytes)
        async with asyncio.timeout(settings.body_seconds):
            return await _read(request, settings, held)
    except (_TooLarge, _NoRoom):
        await drop_rest(request, settings)
        raise
    except TimeoutError:
        raise Refused(408, f"the body did not come within {settings.body_seconds:g} s") from None
    except ClientDisconnect:
        raise Refused(400, "the client left before the body had come") from None


class _TooLarge(Refused):
    def __init__(self, most: int) -> None:
        super().__init__(413, f"more than {most:,} bytes")


class _NoRoom(Refused):
    def __init__(self) -> None:
        super().__init__(503, "the requests under way hold as many bytes as the service may")


async def drop_rest(request: Request, settings: ServiceSettings) -> None:
    """Take and drop a part of what still comes: most clients read no answer while they send, and would only learn that
    the connection was closed."""
    n, most = 0, _DROPPED * settings.max_upload_bytes
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_SECONDS_TO_DROP):
            while n < most:
                message = await request.receive()
                n += len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return


async def _read(request: Request, settings: ServiceSettings, held: Held) -> Upload:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await _of_form(request, settings, held)
    if kind == "application/json":
        return _of_json(await _whole(request, _MOST_JSON, held))
    data = await _whole(request, settings.max_upload_bytes, held)
    if not data:
        raise Refused(400, "expected an image: as the body, in a form, or by its address as JSON")
    return Upload(images=(data,))


async def _whole(request: Request, most: int, held: Held) -> bytes:
    return b"".join([part async for part in _bounded(request, most, held)])


async def _bounded(request: Request, most: int, held: Held) -> AsyncGenerator[bytes, None]:
    """The body as it comes; what is more than `most` is never held, whatever the request said of its length."""
    n = 0
    async for part in request.stream():
        n += len(part)
        if n > most:
            raise _TooLarge(most)
        if not held.take(len(part)):
            raise _NoRoom
        yield part


class _Form(MultiPartParser):
    """`is_whole`: the boundary that ends a form has come."""

    is_whole = False

    def on_end(self) -> None:
        super().on_end()
        self.is_whole = True


async def _of_form(request: Request, settings: ServiceSettings, held: Held) -> Upload:
    parser = _parser(request, settings, held)
    try:
        form = await parser.parse()
    except (MultiPartException, FormParserError, KeyError, UnicodeDecodeError) as e:
        raise Refused(400, f"the form cannot be read: {e}") from e
    images = [await value.read() for key, value in form.multi_items() if isinstance(value, UploadFile)]
    uri = form.get("uri")
    await form.close()
    if not parser.is_whole:
        raise Refused(400, "the form is cut off: the boundary at its end is missing")
    if not images:
        raise Refused(400, "expected at least one file in the form")
    return Upload(images=tuple(images), uri=uri if isinstance(uri, str) else None)


def _parser(request: Request, settings: ServiceSettings, held: Held) -> _Form:
    """Of text in UTF-8 alone: other codecs of Python make text of it that nothing else can hold."""
    charset = parse_options_header(request.headers["content-type"])[1].get(b"charset", b"utf-8")
    if charset.lower() not in (b"utf-8", b"utf8"):
        raise Refused(400, "the form is not in UTF-8")
    stream = _bounded(request, settings.max_upload_bytes, held)
    parser = _Form(request.headers, stream, max_files=settings.max_images, max_fields=4, max_part_size=_MOST_FIELD)
    parser.spool_max_size = settings.max_upload_bytes  # in memory, which is bounded: no file is written
    return parser


def _of_json(data: bytes) -> Upload:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as e:
        raise Refused(400, f"the body is no JSON: {e}") from e
    uri = found.get("uri") if isinstance(found, dict) else None
    if not isinstance(uri, str) or not uri:
        raise Refused(400, 'expected {"uri": "..."}')
    return Upload(address=uri)


def fetch(address: str, settings: ServiceSettings, max_bytes: int) -> bytes:
    """The bytes at an address below one of the prefixes. Raises Refused (403), or ImageRejected as a run would."""
    uri = require_allowed(address, settings.prefixes)
    try:
        return read_object(uri, max_bytes=min(settings.max_upload_bytes, max_bytes))
    except OSError as e:
        raise ImageRejected("store_unavailable", str(fault_of(e))) from e


def require_allowed(address: str, prefixes: tuple[str, ...]) -> str:
    """As `allowed.require_allowed`. Raises Refused (400 or 403)."""
    try:
        return allowed.require_allowed(address, prefixes)
    except ValueError as e:
        raise Refused(400, f"no address: {e}") from e
    except allowed.NotAllowed as e:
        raise Refused(403, str(e)) from e

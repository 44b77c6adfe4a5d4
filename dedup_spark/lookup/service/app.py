"""The routes of the service, and what every request has to pass: host, origin, token, bounds."""

from __future__ import annotations

import functools
import hmac
import importlib.resources
import json
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from dedup_spark.errors import ConfigError
from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.lookup.added_log import TooManyAdded
from dedup_spark.lookup.answers import Answer, as_plain
from dedup_spark.lookup.lookup import Lookup
from dedup_spark.lookup.never import KINDS
from dedup_spark.lookup.service.bodies import Held
from dedup_spark.lookup.service.openapi import OPEN, document
from dedup_spark.lookup.service.uploads import Refused, Upload, drop_rest, fetch, read_upload, require_allowed
from dedup_spark.lookup.service.work import Work

log = logging.getLogger(__name__)

Handler = Callable[[Request], Awaitable[Response]]
Handle = Callable[[Request, Work], Awaitable[Response]]

_RETRY_AFTER = {503: "1"}
_LONGEST_REASON = 500
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")
_POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src blob: data:"
_FLAGS = {"": True, "1": True, "true": True, "0": False, "false": False}
_PAGE = {
    "/": ("page.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
}


def make_app(work: Work) -> Starlette:
    """The service over what `work` has opened."""

    def route(path: str, handle: Handle, *methods: str, is_open: bool = False) -> Route:
        return Route(path, _guarded(handle, work, path, is_open=is_open), methods=methods or ("GET",))

    return Starlette(
        routes=[
            route("/v1/lookup", _lookup, "POST"),
            route("/v1/images", _add, "POST"),
            route("/v1/images", _remove, "DELETE"),
            route("/v1/never-match", _never_match, "POST"),
            route("/v1/images/{image_id}", _image),
            route("/v1/images/{image_id}/thumbnail", _thumbnail),
            route("/v1/index", _index),
            route("/metrics", _metrics),
            *(route(path, handle, is_open=True) for path, handle in _OPEN.items()),
        ]
    )


def _guarded(handle: Handle, work: Work, path: str, *, is_open: bool) -> Handler:
    """`handle` behind the checks; what it refuses, and what fails, becomes JSON with a sentence.

    `is_open`: it tells nothing of the lake, and asks for no token. No check depends on what the request says of itself
    in the place of the route.
    """

    async def guarded(request: Request) -> Response:
        response = await _answered(request, handle, work, is_open=is_open)
        work.metrics.count("requests_total", path=path, status=str(response.status_code))
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    return guarded


async def _answered(request: Request, handle: Handle, work: Work, *, is_open: bool) -> Response:
    try:
        _require_own_host(request, work)
        if not is_open:
            _require_token(request, work)
        return await handle(request, work)
    except Refused as e:
        return _refusal(e.status, e.why)
    except TooManyAdded as e:
        return _refusal(507, str(e))
    except ConfigError as e:
        return _refusal(400, str(e))
    except Exception as e:  # a disk that is full, a table that lacks something: others are answered
        log.exception("serve: a request failed")
        return _refusal(500, f"the service failed: {type(e).__name__}")


@asynccontextmanager
async def _receiving(request: Request, work: Work) -> AsyncIterator[Held]:
    """As `Work.receiving`; where nobody will look at the body, it is dropped as it comes."""
    try:
        work.require_room()
    except Refused:
        await drop_rest(request, work.settings)
        raise
    with work.receiving() as held:
        yield held


def _refusal(status: int, why: str) -> Response:
    later = {"Retry-After": _RETRY_AFTER[status]} if status in _RETRY_AFTER else {}
    asks = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    closes = {"Connection": "close"} if status in (408, 413, 503) else {}  # the rest of the body is not waited for
    return JSONResponse({"error": why}, status, {**later, **asks, **closes})


def _require_own_host(request: Request, work: Work) -> None:
    """No page of somebody else may ask through the browser of a person on this machine. Raises Refused (403)."""
    host, hosts = request.headers.get("host", ""), work.settings.hosts
    if hosts and _host_name(host) not in hosts:
        raise Refused(403, "the name in Host is not that of this service")
    origin = request.headers.get("origin")
    if origin is not None and origin != f"{request.scope.get('scheme', 'http')}://{host}":
        raise Refused(403, "a page of another origin asks")


def _host_name(host: str) -> str | None:
    """Of `name:port`; None for what is none."""
    found = _HOST.fullmatch(host)
    return found[1].strip("[]").lower() if found else None


def _require_token(request: Request, work: Work) -> None:
    wanted = work.settings.token
    if wanted is None:
        return
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), wanted.encode()):
        raise Refused(401, "expected Authorization: Bearer with the token of the service")


def _flag(request: Request, name: str) -> bool:
    value = request.query_params.get(name, "0").lower()
    if value not in _FLAGS:
        raise Refused(400, f"{name}: expected true or false")
    return _FLAGS[value]


async def _lookup(request: Request, work: Work) -> Response:
    flags = {name: _flag(request, name) for name in ("exhaustive", "others")}
    async with _receiving(request, work) as held:
        upload = await read_upload(request, work.settings, held)
        answer = functools.partial(_answers, upload=upload, work=work, flags=flags)
        return Response(await work.run(answer, held), media_type="application/json")


def _answers(lookup: Lookup, ends_at: float, upload: Upload, work: Work, flags: dict[str, bool]) -> bytes:
    """As JSON, which is made in this thread: there may be hundreds of images in it."""
    try:
        answers: Sequence[Answer] = lookup.lookup(_images(lookup, upload, work), ends_at=ends_at, **flags)
    except ImageRejected as e:
        answers = [lookup.rejected(e)]
    for answer in answers:
        work.metrics.answered(answer)
    return json.dumps({"answers": [as_plain(answer) for answer in answers]}).encode()


def _images(lookup: Lookup, upload: Upload, work: Work) -> list[bytes]:
    if upload.address is None:
        return [*upload.images]
    return [fetch(upload.address, work.settings, lookup.max_bytes)]


async def _add(request: Request, work: Work) -> Response:
    async with _receiving(request, work) as held:
        upload = await read_upload(request, work.settings, held)
        uri = upload.uri or request.query_params.get("uri") or upload.address
        if not uri or len(upload.images) + (upload.address is not None) != 1:
            raise Refused(400, "expected one image, and its address as uri")
        answer = await work.run(functools.partial(_added, upload=upload, uri=uri, work=work), held)
    work.metrics.answered(answer)
    is_added = answer.outcome in ("copies", "no_copy")
    return JSONResponse({"added": is_added, "answer": as_plain(answer)}, 201 if is_added else 422)


def _added(lookup: Lookup, ends_at: float, upload: Upload, uri: str, work: Work) -> Answer:
    """The next run reads the address of an addition, so it has to lie in a lake or below a prefix."""
    allowed = _own_address(lookup, uri, work)
    try:
        data = upload.images[0] if upload.images else fetch(uri, work.settings, lookup.max_bytes)
        return lookup.add(data, allowed, ends_at=ends_at)
    except ImageRejected as e:
        return lookup.rejected(e)


def _own_address(lookup: Lookup, uri: str, work: Work) -> str:
    lakes = tuple(f"{lake.rstrip('/')}/" for lake in lookup.lakes)
    return require_allowed(uri, (*work.settings.prefixes, *lakes))


async def _remove(request: Request, work: Work) -> Response:
    uri = request.query_params.get("uri")
    if not uri:
        raise Refused(400, "expected the address of an added image as uri")
    async with _receiving(request, work) as held:
        n_removed = await work.run(functools.partial(_removed, uri=uri, work=work), held)
    return JSONResponse({"removed": n_removed}, 200 if n_removed else 404)


def _removed(lookup: Lookup, _: float, uri: str, work: Work) -> int:
    return lookup.remove(_own_address(lookup, uri, work))


async def _never_match(request: Request, work: Work) -> Response:
    """An image in the body, or hashes in the query."""
    named = {name: value for name in KINDS if (value := request.query_params.get(name))}
    bits, reason = request.query_params.get("max_bits", "0"), request.query_params.get("reason", "")
    if not bits.isdecimal() or len(bits) > 2 or len(reason) > _LONGEST_REASON:
        raise Refused(400, f"expected max_bits as a number, and a reason of at most {_LONGEST_REASON} characters")
    async with _receiving(request, work) as held:
        upload = Upload() if named else await read_upload(request, work.settings, held)
        if len(upload.images) + (upload.address is not None) + bool(named) != 1:
            raise Refused(400, "expected one image, or hashes in the query")
        listing = functools.partial(_listed, upload=upload, named=named, bits=int(bits), reason=reason, work=work)
        refused = await work.run(listing, held)
    return JSONResponse({"error": refused} if refused else {"listed": True}, 422 if refused else 201)


def _listed(
    lookup: Lookup, _: float, upload: Upload, named: dict[str, str], bits: int, reason: str, work: Work
) -> str | None:
    """Why an image could not be listed; None where it was."""
    try:
        (image,) = [None] if named else _images(lookup, upload, work)
        lookup.never_match(image, max_bits=bits, reason=reason, **named)
    except ImageRejected as e:
        return f"{e.reason}: {e.message}"
    return None


def _id_of(request: Request) -> int:
    try:
        return int(request.path_params["image_id"])
    except ValueError:
        raise Refused(404, "an image_id is a whole number") from None


async def _image(request: Request, work: Work) -> Response:
    facts = work.lookup.facts(_id_of(request))
    if facts is None:
        raise Refused(404, "no such image")
    names = ("image_id", "keeper_image_id", "cluster_id", "phash")
    return JSONResponse(facts | {name: None if facts[name] is None else str(facts[name]) for name in names})


async def _thumbnail(request: Request, work: Work) -> Response:
    jpeg = work.lookup.thumbnail(_id_of(request))
    if jpeg is None:
        raise Refused(404, "no such image")
    return Response(jpeg, media_type="image/jpeg", headers={"Cache-Control": "no-store"})


async def _index(_: Request, work: Work) -> Response:
    index: dict[str, Any] = as_plain(work.lookup.index)
    return JSONResponse(index | {"reload_error": work.lookup.reload_error})


async def _livez(_: Request, work: Work) -> Response:
    return PlainTextResponse("alive\n")


async def _readyz(_: Request, work: Work) -> Response:
    return PlainTextResponse(f"run {work.lookup.index.run_id} is open\n")


async def _metrics(_: Request, work: Work) -> Response:
    index = work.lookup.index if work.is_open else None
    return PlainTextResponse(work.metrics.text(index), media_type="text/plain; version=0.0.4; charset=utf-8")


async def _openapi(_: Request, work: Work) -> Response:
    return JSONResponse(document(work.settings))


async def _page(request: Request, work: Work) -> Response:
    name, kind = _PAGE[request.scope["path"]]
    text = importlib.resources.files(__package__).joinpath(name).read_bytes()
    headers = {"Content-Security-Policy": _POLICY, "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache"}
    return Response(text, media_type=f"{kind}; charset=utf-8", headers=headers)


_OPEN: dict[str, Handle] = {
    **dict(zip(OPEN, (_livez, _readyz, _openapi), strict=True)),
    **dict.fromkeys(_PAGE, _page),
}
"""What tells nothing of the lake."""

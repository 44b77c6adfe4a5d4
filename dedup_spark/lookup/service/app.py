"""The routes of the service, and what every request has to pass: host, origin, token, bounds."""

from __future__ import annotations

import functools
import hmac
import importlib.resources
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from dedup_spark.errors import ConfigError
from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.lookup.answers import Answer, as_plain
from dedup_spark.lookup.lookup import Lookup
from dedup_spark.lookup.service.openapi import document
from dedup_spark.lookup.service.uploads import Refused, Upload, fetch, read_upload, require_allowed
from dedup_spark.lookup.service.work import Work

Handler = Callable[[Request], Awaitable[Response]]

_RETRY_AFTER = {503: "1"}
_OPEN = ("/", "/page.js", "/page.css", "/livez", "/readyz", "/openapi.json")
"""Paths that tell nothing of the lake, and ask for no token."""
_POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src blob: data:"
_FLAGS = {"": True, "1": True, "true": True, "0": False, "false": False}
_PAGE = {
    "/": ("page.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
}


def make_app(work: Work) -> Starlette:
    """The service over what `work` has opened."""
    routes = [
        Route("/v1/lookup", _guarded(_lookup, work), methods=["POST"]),
        Route("/v1/images", _guarded(_add, work), methods=["POST"]),
        Route("/v1/images/{image_id}", _guarded(_image, work)),
        Route("/v1/images/{image_id}/thumbnail", _guarded(_thumbnail, work)),
        Route("/v1/index", _guarded(_index, work)),
        Route("/livez", _guarded(_livez, work)),
        Route("/readyz", _guarded(_readyz, work)),
        Route("/metrics", _guarded(_metrics, work)),
        Route("/openapi.json", _guarded(_openapi, work)),
        *(Route(path, _guarded(_page, work)) for path in _PAGE),
    ]
    return Starlette(routes=routes)


def _guarded(handle: Callable[[Request, Work], Awaitable[Response]], work: Work) -> Handler:
    """`handle` behind the checks; what it refuses, and what fails, becomes JSON with a sentence."""

    async def guarded(request: Request) -> Response:
        try:
            _require_own_host(request, work)
            _require_token(request, work)
            response = await handle(request, work)
        except Refused as e:
            response = _refusal(e.status, e.why)
        except ConfigError as e:
            response = _refusal(400, str(e))
        work.metrics.count("requests_total", path=request.scope["route"].path, status=str(response.status_code))
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    return guarded


def _refusal(status: int, why: str) -> Response:
    later = {"Retry-After": _RETRY_AFTER[status]} if status in _RETRY_AFTER else {}
    asks = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    closes = {"Connection": "close"} if status in (408, 413) else {}  # the rest of the body is not waited for
    return JSONResponse({"error": why}, status, {**later, **asks, **closes})


def _require_own_host(request: Request, work: Work) -> None:
    """No page of somebody else may ask through the browser of a person on this machine. Raises Refused (403)."""
    hosts = work.settings.hosts
    if hosts and request.url.hostname not in hosts:
        raise Refused(403, "the name in Host is not that of this service")
    origin = request.headers.get("origin")
    if origin is not None and origin != f"{request.url.scheme}://{request.headers.get('host', '')}":
        raise Refused(403, "a page of another origin asks")


def _require_token(request: Request, work: Work) -> None:
    wanted = work.settings.token
    if wanted is None or request.url.path in _OPEN:
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
    upload = await read_upload(request, work.settings)
    answers = await work.run(functools.partial(_answers, upload=upload, work=work, flags=flags))
    for answer in answers:
        work.metrics.answered(answer)
    return JSONResponse({"answers": [as_plain(answer) for answer in answers]})


def _answers(lookup: Lookup, upload: Upload, work: Work, flags: dict[str, bool]) -> Sequence[Answer]:
    if upload.address is None:
        return lookup.lookup([*upload.images], **flags)
    try:
        return [lookup.lookup(fetch(upload.address, work.settings), **flags)]
    except ImageRejected as e:
        return [lookup.rejected(e)]


async def _add(request: Request, work: Work) -> Response:
    upload = await read_upload(request, work.settings)
    uri = upload.uri or request.query_params.get("uri") or upload.address
    if not uri or len(upload.images) + (upload.address is not None) != 1:
        raise Refused(400, "expected one image, and its address as uri")
    answer = await work.run(functools.partial(_added, upload=upload, uri=uri, work=work))
    work.metrics.answered(answer)
    is_added = answer.outcome in ("copies", "no_copy")
    return JSONResponse({"added": is_added, "answer": as_plain(answer)}, 201 if is_added else 422)


def _added(lookup: Lookup, upload: Upload, uri: str, work: Work) -> Answer:
    """The next run reads the address of an addition, so it has to lie in the lake or below a prefix."""
    allowed = require_allowed(uri, (*work.settings.prefixes, f"{lookup.lake.rstrip('/')}/"))
    try:
        return lookup.add(upload.images[0] if upload.images else fetch(uri, work.settings), allowed)
    except ImageRejected as e:
        return lookup.rejected(e)


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
    return Response(jpeg, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})


async def _index(_: Request, work: Work) -> Response:
    index: dict[str, Any] = as_plain(work.lookup.index)
    return JSONResponse(index | {"reload_error": work.lookup.reload_error})


async def _livez(_: Request, work: Work) -> Response:
    return PlainTextResponse("alive\n")


async def _readyz(_: Request, work: Work) -> Response:
    return PlainTextResponse(f"run {work.lookup.index.run_id} is open\n")


async def _metrics(_: Request, work: Work) -> Response:
    try:
        index = work.lookup.index
    except Refused:
        index = None
    return PlainTextResponse(work.metrics.text(index), media_type="text/plain; version=0.0.4; charset=utf-8")


async def _openapi(_: Request, work: Work) -> Response:
    return JSONResponse(document(work.settings))


async def _page(request: Request, work: Work) -> Response:
    name, kind = _PAGE[request.url.path]
    text = importlib.resources.files(__package__).joinpath(name).read_bytes()
    headers = {"Content-Security-Policy": _POLICY, "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache"}
    return Response(text, media_type=f"{kind}; charset=utf-8", headers=headers)

"""The OpenAPI document (3.1) of the service. The schemas of answers are made from the dataclasses that answers are."""

from __future__ import annotations

import types
import typing
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import dedup_spark
from dedup_spark.lookup.answers import Answer, Found, IndexState
from dedup_spark.lookup.never import KINDS
from dedup_spark.lookup.service.settings import ServiceSettings

_PLAIN: dict[Any, dict[str, Any]] = {
    int: {"type": "integer"}, float: {"type": "number"}, str: {"type": "string"}, bool: {"type": "boolean"},
    datetime: {"type": "string", "format": "date-time"}, type(None): {"type": "null"},
}  # fmt: skip
_ERROR = {"type": "object", "properties": {"error": {"type": "string"}}}
_WHY = {
    400: "the request is not as described", 401: "no token, or another one", 403: "not allowed, or by another name",
    404: "no such image", 408: "the body came too slowly", 413: "too large", 422: "the image was not added or listed",
    503: "not ready, or too many wait; Retry-After says when to come again", 504: "no answer in time",
    507: "too many additions are open",
}  # fmt: skip


OPEN = ("/livez", "/readyz", "/openapi.json")
"""Paths that tell nothing of the lake, and ask for no token."""


def document(settings: ServiceSettings) -> dict[str, Any]:
    """As served at /openapi.json."""
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "dedup-spark lookup", "version": dedup_spark.__version__},
        "paths": _paths(settings),
        "components": {"schemas": {one.__name__: _object(one) for one in (Answer, Found, IndexState)}},
    }
    if settings.token is not None:
        found["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        found["security"] = [{"token": []}]
    return found


def _paths(settings: ServiceSettings) -> dict[str, Any]:
    return {path: _behind_checks(path, asked, settings) for path, asked in _operations(settings).items()}


def _behind_checks(path: str, asked: dict[str, Any], settings: ServiceSettings) -> dict[str, Any]:
    """The operations of a path, with what the checks before each may answer: of the host's name, and of the token."""
    needs_token = settings.token is not None and path not in OPEN
    refused = _refused(401, 403) if needs_token else _refused(403)
    security: dict[str, Any] = {"security": []} if path in OPEN else {}
    return {method: one | security | {"responses": one["responses"] | refused} for method, one in asked.items()}


def _operations(settings: ServiceSettings) -> dict[str, Any]:
    answers = {"type": "object", "properties": {"answers": {"type": "array", "items": _ref(Answer)}}}
    added = {"type": "object", "properties": {"added": {"type": "boolean"}, "answer": _ref(Answer)}}
    removed = {"type": "object", "properties": {"removed": {"type": "integer"}}}
    listed = {"type": "object", "properties": {"listed": {"type": "boolean"}}}
    flags = [_parameter("exhaustive", "boolean"), _parameter("others", "boolean")]
    image_id = {**_parameter("image_id", "string"), "in": "path", "required": True}
    asks = {"requestBody": _body(settings)}
    return {
        "/v1/lookup": {"post": asks | _operation("Of which images are these copies?", answers, 400, 403, 408, 413, 503,
                                                 504, parameters=flags)},
        "/v1/images": {"post": asks | _operation("Make an image findable at once", added, 400, 403, 408, 413, 422, 503,
                                                 504, 507, ok=201, parameters=[_parameter("uri", "string")]),
                       "delete": _operation("Take an image back that was added", removed, 400, 403, 404, 503,
                                            parameters=[_parameter("uri", "string")])},
        "/v1/never-match": {"post": asks | _operation(
            "Let an image, or hashes in hex, match nothing from now on", listed, 400, 403, 408, 413, 422, 503, 504,
            ok=201, parameters=[*(_parameter(kind, "string") for kind in KINDS), _parameter("max_bits", "integer"),
                        _parameter("reason", "string")])},
        "/v1/images/{image_id}": {"get": _operation("What is known of an image", {"type": "object"}, 404, 503,
                                                    parameters=[image_id])},
        "/v1/images/{image_id}/thumbnail": {"get": _operation("Its thumbnail, a JPEG", None, 404, 503,
                                                              parameters=[image_id])},
        "/v1/index": {"get": _operation("Which run is asked, and how old it is", _ref(IndexState), 503)},
        "/livez": {"get": _operation("Whether the process answers", None)},
        "/readyz": {"get": _operation("Whether the tables are open", None, 503)},
        "/metrics": {"get": _operation("Counters, as Prometheus reads them", None)},
    }  # fmt: skip


def _operation(
    text: str, schema: dict[str, Any] | None, *refusals: int, ok: int = 200, parameters: list[Any] | None = None
) -> dict[str, Any]:
    content = {"content": {"application/json": {"schema": schema}}} if schema else {}
    answered = {str(ok): {"description": "the answer", **content}}
    return {"summary": text, "responses": answered | _refused(*refusals), "parameters": parameters or []}


def _refused(*statuses: int) -> dict[str, Any]:
    schema = {"application/json": {"schema": _ERROR}}
    return {str(status): {"description": _WHY[status], "content": schema} for status in statuses}


def _parameter(name: str, kind: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": {"type": kind}}


def _body(settings: ServiceSettings) -> dict[str, Any]:
    binary = {"type": "string", "format": "binary", "maxLength": settings.max_upload_bytes}
    form = {"type": "object", "properties": {"image": binary, "uri": {"type": "string"}}}
    address = {"type": "object", "properties": {"uri": {"type": "string"}}, "required": ["uri"]}
    return {
        "required": True,
        "content": {
            "application/octet-stream": {"schema": binary},
            "multipart/form-data": {"schema": form},
            "application/json": {"schema": address},
        },
    }


def _object(of: type) -> dict[str, Any]:
    hints = typing.get_type_hints(of)
    properties = {field.name: _schema(hints[field.name], field.name) for field in fields(of)}
    return {"type": "object", "properties": properties, "required": [*properties]}


def _schema(hint: Any, name: str = "") -> dict[str, Any]:
    """Of a type; ids are text, as `answers.as_plain` makes them."""
    if hint is int and (name.endswith("_id") or name == "phash"):
        return {"type": "string"}
    if hint in _PLAIN:
        return _PLAIN[hint]
    if isinstance(hint, types.UnionType):
        return {"anyOf": [_schema(one, name) for one in typing.get_args(hint)]}
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return {"type": "string", "enum": [*hint]}
    if is_dataclass(hint):
        return _ref(hint)  # type: ignore[arg-type]
    origin, (first, *_) = typing.get_origin(hint), typing.get_args(hint)
    return {"type": "array", "items": _schema(first)} if origin is tuple else {"type": "object"}


def _ref(of: type) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{of.__name__}"}

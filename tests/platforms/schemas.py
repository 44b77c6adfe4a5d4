"""Reads the files of conf/ and compares them with what others expect: the schemas in tests/platforms/schemas."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

HERE = Path(__file__).parent / "schemas"
CONF = Path(__file__).resolve().parents[2] / "conf"


def read_yaml(file: str) -> Any:
    """A YAML file of conf/."""
    return yaml.safe_load((CONF / file).read_text())


def read_settings(platform: str) -> dict[str, str]:
    """The settings of conf/<platform>/spark-defaults.conf."""
    lines = [line.strip() for line in (CONF / platform / "spark-defaults.conf").read_text().splitlines()]
    return dict(line.split(maxsplit=1) for line in lines if line and not line.startswith("#"))  # type: ignore[misc]


def problems(schema: dict[str, Any], document: Any) -> list[str]:
    """What a schema says against a document; empty where it is as expected."""
    errors = sorted(Draft202012Validator(schema).iter_errors(document), key=lambda e: list(map(str, e.absolute_path)))
    return [f"{'/'.join(map(str, e.absolute_path))}: {e.message}"[:400] for e in errors]


def resource_schema(kind: str) -> dict[str, Any]:
    """The schema of a custom resource of the Spark operator; unknown fields are wrong, as the API server drops them."""
    return _strict(_read(kind), is_resource=True)


def cron_job_schema() -> dict[str, Any]:
    """Kubernetes' own, in which unknown fields are wrong already."""
    return _read("kubernetes-cron-job")


def _read(name: str) -> dict[str, Any]:
    return json.loads(gzip.decompress((HERE / f"{name}.json.gz").read_bytes()))


def _strict(schema: Any, is_resource: bool = False) -> Any:
    if isinstance(schema, list):
        return [_strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    found = {
        key: {name: _strict(part) for name, part in value.items()} if key == "properties" else _strict(value)
        for key, value in schema.items()
    }
    if found.pop("x-kubernetes-int-or-string", False):
        found.pop("type", None)
    is_open = "additionalProperties" in found or found.get("x-kubernetes-preserve-unknown-fields")
    if isinstance(found.get("properties"), dict) and not is_open:
        found["additionalProperties"] = False
    if is_resource:
        found["properties"]["metadata"] = {"type": "object", "required": ["name"]}
    return found

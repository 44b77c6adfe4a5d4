"""Tables of a finished run over a few photos, made without Spark: signatures, vectors and versions are real."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, write_deltalake
from PIL import Image

from dedup_spark.commands.demo_lake import load_sample_photo
from dedup_spark.config import Config, ExtractSettings
from dedup_spark.kernels.features.hashing import content_hash
from dedup_spark.kernels.features.signature import sign_image
from dedup_spark.lookup.reading import Reading
from dedup_spark.models import registry
from dedup_spark.store.schema import ALL, COLUMNS, DENSITIES, FEATURES, IMAGES, RUNS, TABLE_VERSIONS, Table
from dedup_spark.store.table_format import FORMAT, Format, write_format

LAKE = "file:///lake"
_VERSIONED = tuple(table for table in ALL if table is not RUNS)


@functools.cache
def photo(name: str, side: int = 320) -> Image.Image:
    """A sample photo, its longest side so many pixels."""
    image: Image.Image = load_sample_photo(name).convert("RGB")
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return image


def jpeg(image: Image.Image, quality: int = 90, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality, **options)
    return out.getvalue()


def png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def opened(data: bytes) -> Image.Image:
    """The picture in a file."""
    return Image.open(io.BytesIO(data)).convert("RGB")


def edited(image: Image.Image) -> bytes:
    """A crop in a lower quality."""
    w, h = image.size
    return jpeg(image.crop((w // 10, 0, w, h * 9 // 10)), 60)


def finish_run(
    root: Path, images: Mapping[str, bytes], run_id: str = "r1", settings: Mapping[str, Any] | None = None, **notes: Any
) -> None:
    """Write what a run leaves that found these images, by uri: the first image of equal pixels is a keeper of its own.

    Calling it again is the next run, which replaces all tables.
    """
    pixels = (settings or {}).get("extract.pixels", "full")
    rows = [_row(number, uri, data, run_id, pixels) for number, (uri, data) in enumerate(images.items(), 1)]
    _write(root, IMAGES, [_listed(row["image_id"], row["uri"]) for row in rows])
    _write(root, FEATURES, [{k: v for k, v in row.items() if k in FEATURES.column_names} for row in rows])
    _write(root, DENSITIES, _densities(rows))
    for table in _VERSIONED:
        if table not in (IMAGES, FEATURES, DENSITIES):
            _write(root, table, [])
    marks(root, run_id, settings or {}, notes)
    write_format(str(root), None, Format(FORMAT, COLUMNS))


def without_vectors(root: Path) -> None:
    """The last run again, as one with extract.embedding=off."""
    rows = DeltaTable(str(root / FEATURES.name)).to_pyarrow_table().to_pylist()
    _write(root, FEATURES, [row | {"embedding": None, "model_id": None} for row in rows])
    _write(root, DENSITIES, [])
    marks(root, "without vectors", {}, {})


def with_model(root: Path, model_id: str) -> None:
    """The last run again, with vectors of another model."""
    rows = DeltaTable(str(root / FEATURES.name)).to_pyarrow_table().to_pylist()
    _write(root, FEATURES, [row | {"embedding": bytes(1024), "model_id": model_id} for row in rows])
    marks(root, "another model", {}, {})


def empty(root: Path) -> None:
    """The last run again, over a lake of which no image can be read."""
    for table in (FEATURES, DENSITIES):
        _write(root, table, [])
    marks(root, "empty", {}, {})


def forget(root: Path, uris: Sequence[str]) -> None:
    """What `dedup-spark forget` leaves, as far as look-ups see it."""
    key = "0123456789abcdef"
    (root / "_forgotten").mkdir(exist_ok=True)
    (root / "_forgotten" / "key").write_text(key)
    digests = [hashlib.sha256("\0".join([key, uri, ""]).encode()).digest() for uri in uris]
    write_deltalake(str(root / "_forgotten" / "addresses"), pa.table({"digest": digests}), mode="append")
    gone = DeltaTable(str(root / IMAGES.name)).to_pyarrow_table(filters=[("uri", "in", uris)])["image_id"]
    for table in (IMAGES, FEATURES, DENSITIES):
        rows = DeltaTable(str(root / table.name)).to_pyarrow_table()
        left = rows.filter(pc.invert(pc.is_in(rows["image_id"], gone.combine_chunks())))
        write_deltalake(str(root / table.name), left, mode="overwrite")
    versions = {table.name: DeltaTable(str(root / table.name)).version() for table in _VERSIONED}
    mark = _mark("forget", "forget", "complete", {TABLE_VERSIONS: versions}, None)
    write_deltalake(str(root / RUNS.name), pa.Table.from_pylist([mark], RUNS.schema.arrow), mode="append")


def begin_run(root: Path, run_id: str) -> None:
    """What a run leaves that was stopped after extract: features of another lake."""
    one = _row(77, "file:///lake/other.jpg", jpeg(photo("moon.png")), run_id)
    _write(root, FEATURES, [{k: v for k, v in one.items() if k in FEATURES.column_names}])
    rows = [_mark(run_id, "extract", "started", {}, json.loads(Config().to_json()))]
    write_deltalake(str(root / RUNS.name), pa.Table.from_pylist(rows, RUNS.schema.arrow), mode="append")


def marks(root: Path, run_id: str, settings: Mapping[str, Any], notes: Mapping[str, Any]) -> None:
    """The marks of the steps, which name the versions that the tables have now."""
    config = json.loads(Config().to_json())
    for name, value in settings.items():
        section, _, key = name.partition(".")
        config[section][key] = value
    versions = {table.name: DeltaTable(str(root / table.name)).version() for table in _VERSIONED}
    said = {
        "inventory": {}, "extract": {}, "match": {"engine": "exact", "floor": 0.15, "sketch": None} | dict(notes),
        "cluster": {TABLE_VERSIONS: versions},
    }  # fmt: skip
    rows = [_mark(run_id, "inventory", "started", {}, config)]
    rows += [_mark(run_id, step, "complete", said[step], config) for step in said]
    write_deltalake(str(root / RUNS.name), pa.Table.from_pylist(rows, RUNS.schema.arrow), mode="append")


def _mark(run_id: str, step: str, status: str, notes: Mapping[str, Any], config: Any) -> dict[str, Any]:
    return {
        "run_id": run_id, "step": step, "status": status, "at": datetime.now(UTC), "notes": json.dumps(notes),
        "config": json.dumps(config), "lake": LAKE,
    }  # fmt: skip


def _write(root: Path, table: Table, rows: list[dict[str, Any]]) -> None:
    write_deltalake(str(root / table.name), pa.Table.from_pylist(rows, table.schema.arrow), mode="overwrite")


def _listed(image_id: int, uri: str) -> dict[str, Any]:
    return {"image_id": image_id, "lake": LAKE, "uri": uri, "object_version": 1}


@functools.cache
def reading(pixels: str = "full") -> Reading:
    """How the lake is read: by the defaults, but for extract.pixels."""
    extract = ExtractSettings(pixels=pixels)
    return Reading(extract, registry.resolve(extract, on_gpu=False, threads=1))


@functools.cache
def _signed(data: bytes, pixels: str) -> tuple[dict[str, Any], bytes]:
    signature = sign_image(data, reading(pixels).signature)
    model = reading(pixels).model
    assert model is not None
    vector = registry.load(model).embed(np.stack([signature.model_input]))[0].astype("<f2")
    facts = {field.name: getattr(signature, field.name) for field in dataclasses.fields(signature)}
    return facts, vector.tobytes()


def _row(image_id: int, uri: str, data: bytes, run_id: str, pixels: str = "full") -> dict[str, Any]:
    facts, embedding = _signed(data, pixels)
    model = reading().model
    assert model is not None
    own = {
        "image_id": image_id, "uri": uri, "status": "ok", "object_version": 1, "content_hash": content_hash(data),
        "run_id": run_id, "model_id": model.model_id, "embedding": embedding,
    }  # fmt: skip
    return facts | own


def _densities(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As match writes them, down to a cosine of 0.15."""
    first: dict[str, dict[str, Any]] = {}
    for row in rows:
        first.setdefault(row["pixel_hash"], row)
    ids = [row["image_id"] for row in first.values()]
    x = np.stack([np.frombuffer(row["embedding"], "<f2") for row in first.values()]).astype(np.float64)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    products = x @ x.T
    found = []
    for k, image_id in enumerate(ids):
        others = np.sort(np.delete(products[k], k))[::-1][:32]
        found.append({"image_id": image_id, "similarities": others[others >= 0.15].tolist()})
    return found

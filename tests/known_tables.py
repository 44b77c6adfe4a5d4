"""Rows of images, features, clusters and runs for twelve images of which everything is known. Nothing is computed."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

from PIL import Image
from pyspark.sql import SparkSession

from dedup_spark.spark.local_relation import local_relation
from dedup_spark.store.schema import CLUSTERS, FEATURES, IMAGES, RUNS, Table
from dedup_spark.store.tables import Tables

LAKE, TAR_LAKE, MANIFEST = "file:///lake", "s3://bucket/photos", "file:///lists/photos.csv"
MODIFIED_AT = datetime(2024, 5, 1, 12, tzinfo=UTC)
HOSTILE = "<img src=x onerror='alert(1)'> & \"2\""

_ADDRESSES = (  # image_id, lake, uri, member, size_bytes
    (1, LAKE, f"{LAKE}/a/x/kept.jpg", None, 100),
    (2, LAKE, f"{LAKE}/a/x/deep/down/copy.jpg", None, 100),
    (3, LAKE, f"{LAKE}/a/y/copy.png", None, 300),
    (4, LAKE, f"{LAKE}/edited.jpg", None, 50),
    (5, LAKE, f"{LAKE}/a/x/next.jpg", None, 80),
    (6, LAKE, f"{LAKE}/c/kept.jpg", None, 1000),
    (7, LAKE, f"{LAKE}/c/small.jpg", None, 700),
    (8, LAKE, f"{LAKE}/c/alone.jpg", None, 40),
    (9, LAKE, f"{LAKE}/c/broken.jpg", None, 5),
    (10, LAKE, f"{LAKE}/c/{HOSTILE}.jpg", None, 6),
    (11, TAR_LAKE, f"{TAR_LAKE}/t/photos.tar", "one/two.jpg", 20),
    (12, MANIFEST, "s3://elsewhere/p/q/r/copy.jpg", None, None),
)
_REJECTED = {9: ("truncated", "file ends early"), 10: ("not_an_image", HOSTILE)}
PROTECTED = 5
_MEMBERS = (  # image_id, keeper_image_id, relation, similarity, hamming_bits
    (1, 1, None, 1.0, 0),
    (2, 1, "same_bytes", 1.0, 0),
    (3, 1, "same_pixels", 1.0, 0),
    (4, 1, "edited_copy", 0.75, 9),
    (5, 1, "edited_copy", 0.25, 30),
    (6, 6, None, 1.0, 0),
    (7, 6, "edited_copy", 0.875, 4),
    (11, 6, "same_bytes", 1.0, 0),
    (12, 6, "edited_copy", None, 2),
)


def fill_known_tables(tables: Tables) -> None:
    """Append the rows; the tables exist and are empty."""
    rows = known_rows()
    for table in (IMAGES, FEATURES, CLUSTERS, RUNS):
        append(tables, table, rows[table.name])


def known_rows() -> dict[str, list[dict[str, Any]]]:
    """The rows by the name of their table; a missing column is null."""
    return {
        IMAGES.name: [image_row(*address) for address in _ADDRESSES],
        FEATURES.name: [feature_row(address[0], *_REJECTED.get(address[0], ())) for address in _ADDRESSES],
        CLUSTERS.name: [_cluster_row(*member) for member in _MEMBERS],
        RUNS.name: [listing_row(lake) for lake in (LAKE, TAR_LAKE, MANIFEST)],
    }


def listing_row(lake: str, hours_ago: float = 1, status: str = "complete") -> dict[str, Any]:
    """A row of `runs` of a listing of the lake."""
    at = datetime.now(UTC) - timedelta(hours=hours_ago)
    return {"run_id": f"{lake} {hours_ago}", "step": "inventory", "status": status, "at": at, "lake": lake}


def append(tables: Tables, table: Table, rows: list[dict[str, Any]]) -> None:
    """Append rows, each a dict by column name; a missing column is null."""
    tables.append(table, _frame(tables.spark, table, rows))


def image_row(image_id: int, lake: str, uri: str, member: str | None, size_bytes: int | None) -> dict[str, Any]:
    return {
        "image_id": image_id, "lake": lake, "uri": uri, "member": member, "size_bytes": size_bytes,
        "modified_at": MODIFIED_AT, "object_version": 1,
    }  # fmt: skip


def feature_row(image_id: int, reason: str | None = None, message: str | None = None) -> dict[str, Any]:
    row: dict[str, Any] = {"image_id": image_id, "object_version": 1, "status": "rejected" if reason else "ok"}
    if reason:
        return row | {"reject_reason": reason, "reject_message": message}
    return row | {
        "width_px": 40, "height_px": 30, "format": "JPEG", "thumbnail": thumbnail(image_id),
        "model_id": "test/1", "embedding": bytes([image_id] * 4),
    }  # fmt: skip


def thumbnail(image_id: int) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (40, 30), (20 * image_id, 90, 160)).save(data, "JPEG")
    return data.getvalue()


def _cluster_row(
    image_id: int, keeper: int, relation: str | None, similarity: float | None, bits: int
) -> dict[str, Any]:
    _, _, uri, member, size_bytes = _ADDRESSES[image_id - 1]
    return {
        "image_id": image_id, "uri": uri, "member": member, "cluster_id": keeper, "keeper_image_id": keeper,
        "cluster_size": sum(m[1] == keeper for m in _MEMBERS), "is_keeper": image_id == keeper, "relation": relation,
        "similarity": similarity, "hamming_bits": bits, "size_bytes": size_bytes, "reason": f"because of {image_id}",
        "keeper_distance": None if similarity is None else 1 - similarity, "bound": 0.75, "is_bridge": image_id == 4,
        "distance_unit": "1 - similarity" if similarity is not None else "hamming_bits / 64",
        "decided_by": {None: None, "same_bytes": "content_hash", "same_pixels": "pixel_hash"}.get(
            relation, "phash" if similarity is None else "cosine"
        ),
        "is_protected": image_id == PROTECTED, "is_reference": image_id == PROTECTED,
        "is_removable": relation is not None and image_id != PROTECTED, "object_version": 1, "keeper_object_version": 1,
        "freed_bytes": size_bytes if relation is not None and image_id != PROTECTED else 0,
        "removal_tier": relation, "near_image_id": keeper, "near_object_version": 1,
    }  # fmt: skip


def _frame(spark: SparkSession, table: Table, rows: list[dict[str, Any]]) -> Any:
    return local_relation(spark, [tuple(row.get(name) for name in table.column_names) for row in rows], table.schema)

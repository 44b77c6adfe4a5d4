"""Makes up rows for a test, which names the columns that matter; the others are plain or null. No image is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from dedup_spark.columns import Columns
from dedup_spark.kernels.joins.base import Block
from dedup_spark.spark.local_relation import local_relation
from dedup_spark.stages.representatives import representatives, set_hash, set_name
from dedup_spark.store import shards
from dedup_spark.store.schema import FEATURES, IMAGES, SHARDS
from dedup_spark.store.tables import Tables

DIMENSIONS = 512
MODEL = "made-up/1"

Rows = Iterable[Mapping[str, Any]]


def frame(spark: SparkSession, schema: Columns | str, rows: Rows) -> DataFrame:
    """A DataFrame of rows, each a dict by column name; a missing column is null."""
    columns = Columns(schema) if isinstance(schema, str) else schema
    return local_relation(spark, [tuple(row.get(name) for name in columns) for row in rows], columns)


def listed(image_id: int, **facts: Any) -> dict[str, Any]:
    """A row of `images`."""
    uri = f"file:///lake/{image_id}.jpg"
    return {"image_id": image_id, "lake": "file:///lake", "uri": uri, "size_bytes": 100, "object_version": 1} | facts


def readable(image_id: int, vector: np.ndarray | None = None, **facts: Any) -> dict[str, Any]:
    """A row of `features`, with the pixels of no other row unless `pixel_hash` is given."""
    row = {
        "image_id": image_id, "object_version": 1, "status": "ok", "width_px": 40, "height_px": 30, "format": "JPEG",
        "content_hash": f"bytes of {image_id}", "pixel_hash": f"pixels of {image_id}", "phash": image_id,
    }  # fmt: skip
    embedded = {} if vector is None else {"model_id": MODEL, "embedding": to_bytes(vector)}
    return row | embedded | facts


def rejected(image_id: int, reason: str = "corrupt", **facts: Any) -> dict[str, Any]:
    """A row of `features` of an image that could not be read."""
    return {"image_id": image_id, "object_version": 1, "status": "rejected", "reject_reason": reason} | facts


def features(spark: SparkSession, rows: Rows) -> DataFrame:
    return frame(spark, FEATURES.schema, rows)


def images(spark: SparkSession, rows: Rows) -> DataFrame:
    return frame(spark, IMAGES.schema, rows)


def random_ids(n: int, rng: np.random.Generator) -> list[int]:
    """Distinct ids over the whole range, as hashes are: half of them negative."""
    return rng.permutation(np.unique(rng.integers(-(2**63), 2**63 - 1, 2 * n)))[:n].tolist()


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def directions(n: int, rng: np.random.Generator) -> np.ndarray:
    """(n, 512) random unit vectors: negatives, cosines near 0."""
    return unit_rows(rng.standard_normal((n, DIMENSIONS)))


def families(sizes: Iterable[int], cosine: float, rng: np.random.Generator) -> np.ndarray:
    """Unit vectors in families: about `cosine` between two of a family, near 0 between two families."""
    rows = [np.sqrt(cosine) * directions(1, rng) + np.sqrt(1 - cosine) * directions(size, rng) for size in sizes]
    return unit_rows(np.concatenate(rows))


def arc(n: int, cosine: float, rng: np.random.Generator) -> np.ndarray:
    """Unit vectors along an arc: `cosine` between neighbours, near 0 between the ends."""
    x, y = np.linalg.qr(directions(2, rng).T)[0].T
    angles = np.arange(n) * np.arccos(cosine)
    return np.cos(angles)[:, None] * x + np.sin(angles)[:, None] * y


def to_bytes(vector: np.ndarray) -> bytearray:
    return bytearray(np.asarray(vector).astype("<f2").tobytes())


def exact_cosines(vectors: np.ndarray) -> np.ndarray:
    """(n, n) cosines of the vectors as stored, in double precision."""
    stored = np.asarray(vectors).astype("<f2").astype(np.float64)
    return unit_rows(stored) @ unit_rows(stored).T


def hamming(a: int, b: int) -> int:
    return ((a ^ b) & (2**64 - 1)).bit_count()


def flip_bits(phash: int, bits: Iterable[int]) -> int:
    """`phash` as a signed 64-bit integer with some bits changed."""
    value = (phash & (2**64 - 1)) ^ sum(1 << bit for bit in bits)
    return value - 2**64 if value >= 2**63 else value


def near_pairs(ids: list[int], vectors: np.ndarray, at_least: float) -> set[tuple[int, int]]:
    """The pairs of ids, the smaller first, with such a cosine, by brute force."""
    i, j = np.nonzero(np.triu(exact_cosines(vectors) >= at_least, 1))
    return {(min(ids[a], ids[b]), max(ids[a], ids[b])) for a, b in zip(i.tolist(), j.tolist(), strict=True)}


def far_hash(image_id: int) -> int:
    """A pHash far from those of other images, so that it proposes no pair."""
    return int(np.random.default_rng(image_id % 2**63).integers(-(2**63), 2**63 - 1))


NO_OWN_INDEX = {"index_path": None, "index_sha256": None}
"""Of a row of `shards` whose index is of the usual type."""


def write_shards(root: str | Path, ids: list[int], vectors: np.ndarray, sizes: Iterable[int]) -> list[dict[str, Any]]:
    """Write FAISS files of `sizes` vectors each, in the order given. Returns the rows of `shards` that list them."""
    rows, start = [], 0
    centroids = np.asarray(vectors[:1], np.float32)
    cells = shards.write_centroids(str(root), "shard_files/made-up", centroids), centroids
    for shard, size in enumerate(sizes):
        part = slice(start, start + size)
        block = Block(np.array(ids[part], np.int64), vectors[part].astype(np.float16), np.zeros(size, np.int32))
        listed = shards.write_shard(str(root), f"shard_files/made-up/shard-{shard:05d}.faiss", block, cells, seed=1)
        rows.append(NO_OWN_INDEX | {"shard": shard, "model_id": MODEL} | listed)
        start += size
    assert start == len(ids)
    return rows


def fill(tables: Tables, image_rows: Rows = (), feature_rows: Rows = (), shard_rows: Rows = ()) -> None:
    """Append rows to their tables. Rows of shards may have another `built_from` than that of these features."""
    for table, rows in ((IMAGES, image_rows), (FEATURES, feature_rows)):
        if rows := list(rows):
            tables.append(table, frame(tables.spark, table.schema, rows))
    if rows := list(shard_rows):
        built_from = {"built_from": built_from_features(tables)}
        tables.append(SHARDS, frame(tables.spark, SHARDS.schema, [built_from | row for row in rows]))


def built_from_features(tables: Tables) -> str:
    """The value of `shards.built_from` that the step index writes for the rows of features."""
    vectors = representatives(tables.read(FEATURES)).where("embedding IS NOT NULL")
    seen = vectors.agg(F.count("*"), set_hash(F.xxhash64("embedding"))).collect()[0]
    return set_name(*seen)

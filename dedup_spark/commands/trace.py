"""`dedup-spark trace`: shows what became of one image, from its listing to its cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyspark.sql import Row
from pyspark.sql import functions as F

from dedup_spark.commands.sql import plain_value
from dedup_spark.errors import ConfigError
from dedup_spark.sources import addresses
from dedup_spark.store.schema import CENTROIDS, CLUSTER_HISTORY, CLUSTERS, FEATURES, IMAGES, PAIRS
from dedup_spark.store.tables import Tables

_MAX_IMAGES, _MAX_ROWS = 5, 20


@dataclass(frozen=True)
class Trace:
    """One image's rows in images, features, pairs, clusters and cluster_history.

    Attributes:
        rows: By table, as Arrow: `images`, `features`, `pairs` (the most similar first), `clusters` (of the whole
            cluster, by image_id) and `cluster_history`. At most 21 rows each, of which 20 are shown. A table is empty
            where the image has no row in it, and so are the last two where it is in no cluster.
        n_cells: Cells of the index; 0 where there is none.
    """

    uri: str
    image_id: int
    rows: Mapping[str, pa.Table]
    n_cells: int


def trace_image(tables: Tables, uri: str) -> list[Trace]:
    """All rows about the image whose uri is `uri`, or else about each of up to five images whose uri ends with it.

    Raises:
        ConfigError: No image, or more than five, have such an address.
    """
    return [_trace(tables, image["uri"], image["image_id"]) for image in find_images(tables, uri)]


def describe_trace(found: Trace) -> str:
    """The rows as text without values that are null; of bytes the text gives their number."""
    lines = [f"\n{found.uri}"]
    for table, rows in found.rows.items():
        if table == "clusters" and not len(rows):
            lines.append("  clusters: it is in no cluster: no other image is near enough, or it was rejected")
        elif table != "cluster_history" or len(found.rows["clusters"]):
            lines += _lines(table, rows)
    return "\n".join([*lines, f"  index: {found.n_cells} cells" if found.n_cells else "  index: empty"])


def find_images(tables: Tables, uri: str) -> list[Row]:
    """The rows of `images` whose uri is `uri`, or else ends with it.

    Raises:
        ConfigError: No image, or more than five, have such an address.
    """
    images = tables.read(IMAGES)
    whole = addresses.canonical(uri) if addresses.is_absolute(uri) else uri
    found = images.where(F.col("uri") == whole).limit(_MAX_IMAGES + 1).collect()
    found = found or images.where(F.col("uri").endswith(uri)).limit(_MAX_IMAGES + 1).collect()
    if not found:
        raise ConfigError(
            f"no image has a uri that ends with '{uri}': check its spelling, and that its lake was listed"
        )
    if len(found) > _MAX_IMAGES:
        raise ConfigError(f"more than {_MAX_IMAGES} images have a uri that ends with '{uri}'; give a longer part of it")
    return found


def _trace(tables: Tables, uri: str, image_id: int) -> Trace:
    is_image = F.col("image_id") == image_id
    either = (F.col("image_id_a") == image_id) | (F.col("image_id_b") == image_id)
    own = tables.read(CLUSTERS).where(is_image).select("cluster_id").first()
    of_cluster = F.col("cluster_id") == F.lit(own["cluster_id"] if own else None)
    wanted = {
        "images": tables.read(IMAGES).where(is_image),
        "features": tables.read(FEATURES).where(is_image),
        "pairs": tables.read(PAIRS).where(either).orderBy(F.desc("similarity")),
        "clusters": tables.read(CLUSTERS).where(of_cluster).orderBy("image_id"),
        "cluster_history": tables.read(CLUSTER_HISTORY).where(of_cluster).orderBy("clusters_version"),
    }
    rows = {table: found.limit(_MAX_ROWS + 1).toArrow() for table, found in wanted.items()}
    return Trace(uri, image_id, rows, tables.read(CENTROIDS).count())


def _lines(table: str, rows: pa.Table) -> list[str]:
    if not len(rows):
        return [f"  {table}: no row"]
    lines = []
    for row in rows.slice(0, _MAX_ROWS).to_pylist():
        known = {name: value for name, value in row.items() if value is not None}
        lines += [f"  {table}:", *(f"    {name}: {_text(value)}" for name, value in known.items())]
    if len(rows) > _MAX_ROWS:
        lines.append(f"  {table}: more than {_MAX_ROWS} rows")
    return lines


def _text(value: Any) -> str:
    return f"<{len(value)} bytes>" if isinstance(value, bytes | bytearray) else str(plain_value(value))

"""`dedup-spark trace`: where did image X go? One image's rows in every table, in the order of the steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from dedup_spark.errors import ConfigError
from dedup_spark.sources import addresses
from dedup_spark.store.schema import CENTROIDS, CLUSTER_HISTORY, CLUSTERS, FEATURES, IMAGES, PAIRS
from dedup_spark.store.tables import Tables

_MAX_IMAGES, _MAX_ROWS = 5, 20


def trace_image(tables: Tables, uri: str, say: Callable[[str], None]) -> None:
    """Say all rows about the image whose uri is `uri`, or ends with it.

    Raises:
        ConfigError: no image, or more than a handful, has such an address.
    """
    images = tables.read(IMAGES)
    for image in find_images(tables, uri):
        say(f"\n{image['uri']}")
        _say_rows(say, "images", images.where(F.col("image_id") == image["image_id"]))
        _say_image(tables, image["image_id"], say)


def find_images(tables: Tables, uri: str) -> list[Row]:
    """The rows of `images` whose uri is `uri`, or else ends with it.

    Raises:
        ConfigError: no image, or more than a handful, has such an address.
    """
    images = tables.read(IMAGES)
    whole = addresses.canonical(uri) if addresses.is_absolute(uri) else uri
    found = images.where(F.col("uri") == whole).limit(_MAX_IMAGES + 1).collect()
    found = found or images.where(F.col("uri").endswith(uri)).limit(_MAX_IMAGES + 1).collect()
    if not found:
        raise ConfigError(f"no image has a uri that ends with '{uri}'; is it below a lake that was listed?")
    if len(found) > _MAX_IMAGES:
        raise ConfigError(f"more than {_MAX_IMAGES} images have a uri that ends with '{uri}'; give more of it")
    return found


def _say_image(tables: Tables, image_id: int, say: Callable[[str], None]) -> None:
    features = tables.read(FEATURES).where(F.col("image_id") == image_id)
    _say_rows(say, "features", features)
    either = (F.col("image_id_a") == image_id) | (F.col("image_id_b") == image_id)
    _say_rows(say, "pairs", tables.read(PAIRS).where(either).orderBy(F.desc("similarity")))
    clusters = tables.read(CLUSTERS)
    own = clusters.where(F.col("image_id") == image_id).select("cluster_id").first()
    if own is None:
        say("  clusters: in no cluster: no other image is near enough, or this one was rejected")
    else:
        _say_rows(say, "clusters", clusters.where(F.col("cluster_id") == own["cluster_id"]).orderBy("image_id"))
        history = tables.read(CLUSTER_HISTORY).where(F.col("cluster_id") == own["cluster_id"])
        _say_rows(say, "cluster_history", history.orderBy("clusters_version"))
    n_cells = tables.read(CENTROIDS).count()
    say(f"  index: {n_cells} cells" if n_cells else "  index: empty")


def _say_rows(say: Callable[[str], None], table: str, rows: DataFrame) -> None:
    found = rows.limit(_MAX_ROWS + 1).collect()
    if not found:
        say(f"  {table}: no row")
    for row in found[:_MAX_ROWS]:
        say(f"  {table}:")
        for name, value in row.asDict().items():
            if value is not None:
                say(f"    {name}: {_text(value)}")
    if len(found) > _MAX_ROWS:
        say(f"  {table}: more than {_MAX_ROWS} rows")


def _text(value: Any) -> str:
    return f"<{len(value)} bytes>" if isinstance(value, bytes | bytearray) else str(value)

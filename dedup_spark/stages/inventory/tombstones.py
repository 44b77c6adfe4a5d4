"""Images that are gone: their rows are kept for some days of grace. Part of the step inventory.

A listing that lacks an image may be wrong in ways that no check finds: a folder was not mounted, or a key had no right
to a prefix for an hour. So the rows of such an image move from `images` and `features` to `tombstones`, and move back
when it is listed again; the object is not read again unless it changed.

Each move writes the new place first and the old one last, so that the next run finishes a move that was killed in
between, and nothing is lost. Extract deletes rows of `features` without an image.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dedup_spark.store.schema import FEATURES, IMAGES, TOMBSTONES
from dedup_spark.store.tables import Tables

_OBJECT = ["image_id", "object_version"]


def bury(tables: Tables, gone: DataFrame, at: datetime) -> None:
    """Move the images whose ids are in `gone` (image_id, staged) to `tombstones`, with their rows of features.

    Where `gone` is small enough to be broadcast, `features` is read and not shuffled.
    """
    images = tables.read(IMAGES).join(gone, "image_id", "left_semi")
    read = tables.read(FEATURES).join(gone, "image_id", "left_semi")
    rows = images.join(read, _OBJECT, "left").withColumn("gone_at", F.lit(at))
    only_others = "old.object_version <> new.object_version"  # the same one was written before a step was killed
    tables.upsert(TOMBSTONES, rows.select(TOMBSTONES.column_names), only_if=only_others)
    tables.delete(IMAGES, gone)


def are_there(tables: Tables) -> bool:
    """Whether any image is buried. In most lakes none is: then nothing else need be asked of `tombstones`."""
    return not tables.rows_now(TOMBSTONES).isEmpty()


def bring_back(tables: Tables) -> int:
    """Give images that are listed again their rows of features; returns how many need not be read again.

    Extract reads again those whose fault may have passed, and those with a vector of a model that `features` no longer
    has.
    """
    buried = tables.read(TOMBSTONES)
    ids = buried.select("image_id")
    listed = tables.stage("listed_again", tables.read(IMAGES).join(ids, "image_id", "left_semi").select(_OBJECT))
    if listed.isEmpty():
        return 0
    tables.fence(FEATURES)
    known = tables.read(FEATURES).join(listed, "image_id", "left_semi").select("image_id")
    missing = tables.stage("without_features", listed.join(known, "image_id", "left_anti"))
    models = [row["model_id"] for row in tables.read(FEATURES).select("model_id").distinct().collect()]
    held = [model_id for model_id in models if model_id is not None]
    is_fit = F.col("model_id").isNull() | F.col("model_id").isin(*held) if held else F.lit(True)
    worth_keeping = buried.where("status IS NOT NULL AND NOT coalesce(retriable, false)").where(is_fit)
    kept = worth_keeping.join(missing, _OBJECT, "left_semi")
    rows = tables.stage("brought_back", kept.select(FEATURES.column_names))
    n_rows = rows.count()
    if n_rows:
        tables.append(FEATURES, rows)
    tables.delete(TOMBSTONES, listed.select("image_id"))
    return n_rows


def forget_old(tables: Tables, now: datetime, grace_days: float) -> int:
    """Delete the tombstones older than `grace_days`; returns how many."""
    old = tables.read(TOMBSTONES).where(F.col("gone_at") < F.lit(now - timedelta(days=grace_days)))
    n_old = old.count()
    if n_old:
        tables.delete(TOMBSTONES, tables.stage("old_tombstones", old.select("image_id")))
    return n_old


def with_old_ids(fresh: DataFrame, tombstones: DataFrame | None) -> DataFrame:
    """`fresh` rows of images; an address in `tombstones` keeps the id that it had. None: there is no such address."""
    if tombstones is None:
        return fresh
    old = tombstones.select("uri", "member", F.col("image_id").alias("old_id"))
    same_address = (F.col("new.uri") == F.col("old.uri")) & F.col("new.member").eqNullSafe(F.col("old.member"))
    joined = fresh.alias("new").join(old.alias("old"), same_address, "left")
    image_id = F.coalesce("old_id", "new.image_id").alias("image_id")
    return joined.select(image_id, *[F.col(f"new.{c}").alias(c) for c in fresh.columns if c != "image_id"])

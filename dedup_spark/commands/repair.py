"""`dedup-spark repair`: mends tables in which two runs wrote at once, which versions without a lease allowed.

An image has one row of `features` and an address one row of `images`; where there are more, every later extract fails.
The row that stays is the one that later steps would have taken: of the object as it is listed now, read rather than
rejected, and written last. Rows that are deleted can be made again from the lake; the lake itself is not touched.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from dedup_spark.store.schema import FEATURES, IMAGES, Table
from dedup_spark.store.tables import Tables
from dedup_spark.vocabulary import FeatureStatus


def repair(tables: Tables) -> dict[str, int]:
    """Mend `images`, then `features`. Returns how many rows were deleted, by what was wrong with them."""
    repeated_images = _mend_images(tables)
    features, images = tables.read(FEATURES), tables.read(IMAGES)
    listed = images.select("image_id", F.col("object_version").alias("listed_version"))
    order = [
        F.col("object_version").eqNullSafe(F.col("listed_version")).desc(),
        (F.col("status") == FeatureStatus.OK).desc(),
        F.col("run_id").desc(),
        F.xxhash64("signature_version", "content_hash", "embedding"),
    ]
    twice = _repeated(tables, FEATURES).join(listed, "image_id", "left")
    repeated_features = _keep_first(tables, FEATURES, twice, order)
    orphans = tables.stage("orphans", features.join(images, "image_id", "left_anti").select("image_id").distinct())
    n_orphans = orphans.count()
    if n_orphans:
        tables.delete(FEATURES, orphans)
    tables.drop_staged()
    return {
        "repeated rows of images deleted": repeated_images,
        "repeated rows of features deleted": repeated_features,
        "rows of features without an image deleted": n_orphans,
    }


def _mend_images(tables: Tables) -> int:
    """Keep one row per id, then one row per address: that of the smallest id."""
    images = tables.read(IMAGES)
    n_of_id = _keep_first(
        tables, IMAGES, _repeated(tables, IMAGES), [F.col("modified_at").desc_nulls_last(), F.col("uri")]
    )
    address = Window.partitionBy("uri", F.coalesce("member", F.lit("\u0000"))).orderBy("image_id")
    others = images.select("image_id", "uri", "member").withColumn("place", F.row_number().over(address))
    others = tables.stage("others", others.where("place > 1").select("image_id"))
    n_of_address = others.count()
    if n_of_address:
        tables.delete(IMAGES, others)
    return n_of_id + n_of_address


def _repeated(tables: Tables, table: Table) -> DataFrame:
    """All rows whose key occurs more than once. Where these keys are few, Spark does not shuffle the other rows."""
    rows = tables.read(table)
    keys = rows.groupBy(*table.key).count().where("count > 1").select(*table.key)
    return rows.join(tables.stage(f"keys-{table.name}", keys), list(table.key), "left_semi")


def _keep_first(tables: Tables, table: Table, repeated: DataFrame, order: list[Column]) -> int:
    """Keep the first of the rows with one key. Returns how many were deleted."""
    place = F.row_number().over(Window.partitionBy(*table.key).orderBy(*order))
    ranked = tables.stage(f"repeated-{table.name}", repeated.withColumn("place", place))
    n_more = ranked.where("place > 1").count()
    if n_more:
        tables.replace_rows(table, ranked.where("place = 1").select(table.column_names))
    return n_more

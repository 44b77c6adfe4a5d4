"""Finds the images that a file of labelled pairs names (labels.py) in the tables, by id or by address."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from dedup_spark.commands.labels import Known, Labels
from dedup_spark.sources import addresses
from dedup_spark.spark.local_relation import local_relation
from dedup_spark.store.schema import FEATURES, IMAGES
from dedup_spark.store.tables import Tables


def known_images(tables: Tables, labels: Labels, lake: str, *, embedded: bool = True) -> dict[str, Known]:
    """By the key that the file has for it, what the tables say of each image that they know.

    Args:
        lake: That of the tables; relative addresses count from it (`addresses.folder_of`).
        embedded: Whether it matters that an image has a vector.
    Cost: two scans of the ids and hashes of features, one of the addresses in images.
    """
    keys = sorted({*labels.a, *labels.b})
    if labels.by_id:
        rows = [(key, int(key)) for key in keys if -(2**63) <= int(key) < 2**63]
        asked = F.broadcast(local_relation(tables.spark, rows, "key string, image_id bigint"))
        named = tables.read(IMAGES).select("image_id").join(asked, "image_id").select("key", "image_id")
    else:
        named = by_address(tables, keys, lake)
    # Both are as few as the labels: held here, they need no folder, so that a command that only reads can ask too.
    named = local_relation(tables.spark, named.collect(), "key string, image_id bigint")
    readable = tables.read(FEATURES).where("status = 'ok'").select("image_id", "pixel_hash", "model_id")
    hashes = readable.join(F.broadcast(named), "image_id").select("key", "pixel_hash")
    mine = local_relation(tables.spark, hashes.collect(), "key string, pixel_hash string")
    same_pixels = readable.join(F.broadcast(mine.select("pixel_hash").distinct()), "pixel_hash").groupBy("pixel_hash")
    first = same_pixels.agg(F.min("image_id").alias("id"), F.min_by("model_id", "image_id").alias("model_id"))
    found = named.join(mine.join(first, "pixel_hash"), "key", "left").select("key", "id", "model_id").collect()
    return {row["key"]: Known(row["id"], row["model_id"] is not None or not embedded) for row in found}


def by_address(tables: Tables, keys: list[str], lake: str) -> DataFrame:
    """(key, image_id) of the addresses that are in `images`; the whole key as a uri goes before uri and member."""
    folder = addresses.folder_of(lake)
    rows = [(key, *spelling) for key in keys for spelling in spellings(key, folder)]
    asked = F.broadcast(local_relation(tables.spark, rows, "key string, uri string, member string, place int"))
    images = tables.read(IMAGES).select("image_id", "uri", "member").alias("i")
    same = (F.col("i.uri") == F.col("a.uri")) & F.col("i.member").eqNullSafe(F.col("a.member"))
    return images.join(asked.alias("a"), same).groupBy("key").agg(F.min_by("i.image_id", "a.place").alias("image_id"))


def spellings(key: str, folder: str) -> list[tuple[str, str | None, int]]:
    """(uri, member, place) that a key may stand for, the likeliest first: `#` may be a part of either name."""
    splits = [i for i, character in enumerate(key) if character == "#"]
    parts = [(key, None), *((key[:i], key[i + 1 :]) for i in splits)]
    return [(addresses.canonical(uri, folder), member, place) for place, (uri, member) in enumerate(parts) if uri]

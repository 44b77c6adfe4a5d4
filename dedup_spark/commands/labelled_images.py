"""Finds the images that a file of labelled pairs names (labels.py) in the tables, by id or by address."""

from __future__ import annotations

from typing import Any

from dedup_spark.commands.labels import Known, Labels
from dedup_spark.sources import addresses
from dedup_spark.store.schema import FIRST_READ
from dedup_spark.store.sql_tables import Given, SqlTables


def known_images(tables: SqlTables, labels: Labels, lake: str, *, embedded: bool = True) -> dict[str, Known]:
    """By the key that the file has for it, what the tables say of each image that they know.

    Args:
        lake: That of the tables; relative addresses count from it (`addresses.folder_of`).
        embedded: Whether it matters that an image has a vector.
    Cost: two scans of the ids and hashes of features, one of the addresses in images.
    """
    keys = sorted({*labels.a, *labels.b})
    if labels.by_id:
        rows = [(key, int(key)) for key in keys if -(2**63) <= int(key) < 2**63]
        named = tables.ask(_BY_ID, given=Given("key string, image_id bigint", rows)).to_pylist()
    else:
        named = by_address(tables, keys, lake)
    ids = [(row["key"], row["image_id"]) for row in named]
    hashes = tables.ask(_HASHES, given=Given("key string, image_id bigint", ids)).to_pylist()
    wanted = sorted({row["pixel_hash"] for row in hashes if row["pixel_hash"] is not None})
    firsts = tables.ask(_FIRSTS, given=Given("pixel_hash string", [(pixels,) for pixels in wanted])).to_pylist()
    first = {row["pixel_hash"]: row for row in firsts}
    read = {row["key"]: first.get(row["pixel_hash"], {}) for row in hashes}
    found = {key: read.get(key, {}) for key, _ in ids}
    return {key: Known(row.get("id"), row.get("model_id") is not None or not embedded) for key, row in found.items()}


_BY_ID = "SELECT g.key, i.image_id FROM $images AS i JOIN $given AS g ON g.image_id = i.image_id"
_HASHES = """\
SELECT g.key, f.pixel_hash FROM $features AS f JOIN $given AS g ON g.image_id = f.image_id WHERE f.status = 'ok'"""
_FIRSTS = f"""\
SELECT pixel_hash, image_id AS id, model_id FROM (
  SELECT f.pixel_hash, f.image_id, f.model_id,
         row_number() OVER (PARTITION BY f.pixel_hash ORDER BY {FIRST_READ}) AS place
  FROM $features AS f JOIN $given AS g ON g.pixel_hash = f.pixel_hash WHERE f.status = 'ok'
) AS same WHERE place = 1"""
_BY_ADDRESS = """\
SELECT g.key, i.image_id, g.place
FROM $images AS i JOIN $given AS g ON g.uri = i.uri AND g.member IS NOT DISTINCT FROM i.member
ORDER BY g.place DESC"""


def by_address(tables: SqlTables, keys: list[str], lake: str) -> list[dict[str, Any]]:
    """(key, image_id) of the addresses that are in `images`; the whole key as a uri goes before uri and member."""
    folder = addresses.folder_of(lake)
    rows = [(key, *spelling) for key in keys for spelling in spellings(key, folder)]
    found = tables.ask(_BY_ADDRESS, given=Given("key string, uri string, member string, place int", rows)).to_pylist()
    likeliest = {row["key"]: row["image_id"] for row in found}  # of several the last: that with the least place
    return [{"key": key, "image_id": image_id} for key, image_id in likeliest.items()]


def spellings(key: str, folder: str) -> list[tuple[str, str | None, int]]:
    """(uri, member, place) that a key may stand for, the likeliest first: `#` may be a part of either name."""
    splits = [i for i, character in enumerate(key) if character == "#"]
    parts = [(key, None), *((key[:i], key[i + 1 :]) for i in splits)]
    return [(addresses.canonical(uri, folder), member, place) for place, (uri, member) in enumerate(parts) if uri]
